import { expect, test } from 'vitest'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { type Cost, costAskedFor, costText, fileSize, missedText, speedsAskedFor } from '#contract/comparison/costs.ts'

test('a size has the unit that keeps it short', () => {
  expect([13.5e9, 94e6, 698_784].map((bytes) => costText(bytes, { unit: 'bytes' }))).toEqual(['13.5 GB', '94 MB', '699 kB'])
})

test('an experiment is judged by what it was asked for, and a speed is that of writing', () => {
  const named = (id: string): Cost => ({ ...fileSize, id })
  const costs = [
    fileSize,
    named('tokens per second/prefill in llama.cpp'),
    named('tokens per second/decode in llama.cpp'),
    named('time to first token/512 tokens in llama.cpp'),
  ]
  expect(costAskedFor([{ tokensPerSecond: 45 }], costs).id).toBe('tokens per second/decode in llama.cpp')
  expect(costAskedFor([{ milliseconds: 900, prompt: 512 }], costs).id).toBe('time to first token/512 tokens in llama.cpp')
  expect(costAskedFor([{ bytes: 4e8, format: 'gguf' }, { sparsity: 0.5 }], costs)).toBe(fileSize)
  // Before a speed is measured for both a dense and a pruned file, sizes are compared.
  expect(costAskedFor([{ tokensPerSecond: 45 }], [fileSize])).toBe(fileSize)
})

test('a file that writes more slowly than its run was asked for is named with both speeds, and one within 5 % is not', () => {
  const speed: Cost = { ...fileSize, id: 'tokens per second/decode in llama.cpp', unit: 'tokens/s', lowerIsBetter: false }
  const runs: Pick<ComparedRun, 'id' | 'parameters'>[] = [
    { id: 'a', parameters: { 'amount.tokensPerSecond': 45 } },
    { id: 'b', parameters: { 'amount.tokensPerSecond': 30 } },
    { id: 'c', parameters: { 'amount.sparsity': 0.5 } },
  ]
  const file = (name: string, run: string, mean: number) => ({ name, runs: [run], cost: { mean } })
  const files = [file('fast', 'a', 46), file('near', 'a', 43), file('slow', 'a', 38.2), file('easy', 'b', 31), file('other', 'c', 20)]
  expect(missedText(runs, speed, files)).toBe('Slower than you asked for, as measured: slow reaches 38.2 tokens/s instead of 45 tokens/s.')
  expect(missedText(runs, speed, files.slice(0, 2))).toBeUndefined()
  expect(missedText(runs, fileSize, files), 'speeds are not measured yet').toBeUndefined()
  const seconds: Cost = { ...fileSize, id: 'time to first token/512 tokens in llama.cpp', unit: 's' }
  expect(missedText(runs, seconds, files), 'seconds are no speed of writing').toBeUndefined()
})

test('runs remember the speeds that they were asked for', () => {
  const asked: ComparedRun['parameters'][] = [
    { 'amount.milliseconds': 900, 'amount.prompt': 512 },
    { 'amount.tokensPerSecond': 45 },
    { 'amount.sparsity': 0.5 },
  ]
  expect(speedsAskedFor(asked.map((parameters) => ({ parameters })))).toEqual([{ milliseconds: 900, prompt: 512 }, { tokensPerSecond: 45 }])
})
