import { expect, test } from 'vitest'
import type { FormatOutline } from '#contract/exports/exports.ts'
import type { Transfer } from '#contract/models/models.ts'
import {
  arrangeOutlines,
  choiceKey,
  measuredKey,
  memoryByContext,
  openLines,
  savingShare,
  savingText,
} from '../../../../../src-renderer/features/run/dialogs/save-choices.ts'

const outline = (format: string, type: string | null, problem: string | null = null): FormatOutline => ({
  format,
  type,
  bytes: problem === null ? 1000 : null,
  keyValueBytes: problem === null ? 10 : null,
  notes: [],
  problem,
})
const types = ['F32', 'F16', 'BF16', 'Q8_0', 'Q6_K', 'Q5_K_M', 'Q4_K_M', 'Q2_K']
const outlines = [outline('exact', null), outline('stock', null, 'It cannot.'), ...types.map((type) => outline('gguf', type))]

test('five ways to save come first, the measured one at the top, and every other one is under "more"', () => {
  const usual = arrangeOutlines(outlines, null)
  expect(usual.first.map(choiceKey)).toEqual(['exact', 'gguf Q8_0', 'gguf Q4_K_M', 'gguf F16', 'gguf Q6_K'])
  const measured = arrangeOutlines(outlines, 'gguf Q2_K')
  expect(measured.first.map(choiceKey)).toEqual(['gguf Q2_K', 'exact', 'gguf Q8_0', 'gguf Q4_K_M', 'gguf F16'])
  for (const { first, more } of [usual, measured]) expect([...first, ...more].map(choiceKey).sort()).toEqual(outlines.map(choiceKey).sort())
  expect(measured.more.at(-1)?.problem).toBe('It cannot.')
})

test('a measured type that cannot hold the model is not offered first', () => {
  expect(arrangeOutlines(outlines, 'stock').first.map(choiceKey)).not.toContain('stock')
})

test('the measured way is the type of the weights, or what the run was sized or timed for', () => {
  expect(measuredKey({ amount: { sparsity: 0.5 } })).toBe(null)
  expect(measuredKey({ weights: 'Q4_K_M', amount: { sparsity: 0.5 } })).toBe('gguf Q4_K_M')
  expect(measuredKey({ amount: { bytes: 1e6, format: 'gguf', type: 'Q8_0' } })).toBe('gguf Q8_0')
  expect(measuredKey({ weights: 'Q2_K', amount: { bytes: 1e6, format: 'gguf' } })).toBe('gguf Q2_K')
  expect(measuredKey({ amount: { bytes: 1e6, format: 'stock' } })).toBe('stock')
  expect(measuredKey({ amount: { tokensPerSecond: 30 } })).toBe('gguf F16')
})

test('one file that is opened again has no count, and of several the one that is open', () => {
  const saving: Transfer = {
    ...({ id: 't', kind: 'export', name: 'tiny', status: 'running' } as const),
    ...{ doneBytes: 0, totalBytes: 2e6, bytesPerSecond: null, secondsLeft: null, model: null, problem: null },
  }
  expect(savingText(saving, 'Another process uses the memory.')).toBe('Another process uses the memory.')
  expect([savingText({ ...saving, doneBytes: 1e6 }, null), savingShare({ ...saving, doneBytes: 1e6 })]).toEqual(['1 MB of 2 MB', 0.5])
  const opened = (done: number, total: number) => ({ ...saving, doneBytes: 2e6, opened: { done, total } })
  expect([savingText(opened(0, 1), null), savingShare(opened(0, 1))]).toEqual(['Reopening and comparing …', null])
  expect([savingText(opened(1, 5), null), savingShare(opened(1, 5))]).toEqual(['Reopening and comparing: file 2 of 5', 0.2])
  expect(savingText({ ...opened(1, 1), status: 'done' }, null)).toBe('Saved, reopened and compared.')
})

test('the lines for other programs quote a path and name the type’s own Modelfile', () => {
  const path = '/home/me/My models/tiny-2ssp-Q8_0.gguf'
  expect(openLines({ path }, 'Q8_0', 1)).toEqual([
    { program: 'llama.cpp', line: "llama-cli -m '/home/me/My models/tiny-2ssp-Q8_0.gguf'" },
    { program: 'Ollama', line: "ollama create tiny-2ssp-q8_0 -f '/home/me/My models/Modelfile'" },
    { program: 'LM Studio', line: "lms import --copy '/home/me/My models/tiny-2ssp-Q8_0.gguf'" },
  ])
  expect(openLines({ path: '/m/big-F16-00001-of-00003.gguf' }, 'F16', 2)[1]?.line).toBe('ollama create big-f16 -f /m/Modelfile-F16')
  expect(openLines({ path: 'C:\\my models\\x-Q8_0.gguf' }, 'Q8_0', 1)[1]?.line).toBe('ollama create x-q8_0 -f "C:\\my models\\Modelfile"')
})

test('memory is the file and its keys and values, for a usual context and the whole one', () => {
  expect(memoryByContext(1e9, 1e6, 32_768)).toEqual([
    { tokens: 4096, bytes: 1e9 + 4096e3, keyValueBytes: 4096e3 },
    { tokens: 32_768, bytes: 1e9 + 32_768e3, keyValueBytes: 32_768e3 },
  ])
  expect(memoryByContext(1e9, 1e6, 512).map(({ tokens }) => tokens)).toEqual([512])
})
