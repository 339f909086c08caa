import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { releaseModel } from '#engine/model/kept-model.ts'
import { executeInspection } from '#engine/tasks/inspection.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { hostIn } from '../../fixtures/run-host.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('trimmed')
afterAll(() => releaseModel())

test('runs with fewer tokens are not compared with the dense model token by token, but answer beside it', async () => {
  const source = join(folder, 'a.txt')
  writeFileSync(source, readFileSync(join(import.meta.dirname, '../../fixtures/texts/wikitext-2-valid.txt'), 'utf8').slice(0, 8000))
  const data = { source, sequenceLength: 32, windows: 8 }
  const request: RunRequest = {
    model: await referenceModel('stories260k'),
    method: 'vocabulary',
    amount: { sparsity: 0 },
    options: { rows: 480, prior: 0 },
    seed: 0,
    calibration: data,
    measures: [{ kind: 'answers', prompts: ['Once upon a time'], maxLength: 20 }],
    backend: 'tensorflow',
  }
  const host = hostIn(folder)
  const document = await executeRun(request, host)
  expect(document.plan.vocabulary?.kept).toHaveLength(480)
  expect(document.answers?.[0]?.text.length).toBeGreaterThan(4)
  const named = { id: 1, number: 1, name: 'Fewer tokens' }
  const subjects = [{ run: named as never, plan: document.plan, fingerprint: document.fingerprint ?? null }]
  const inspect = (inspection: RunRequest['inspect']) =>
    executeInspection({ ...request, method: inspection?.kind ?? '', measures: [], inspect: inspection }, subjects, host)
  await expect(inspect({ kind: 'divergence', runs: [1], data } as never)).rejects.toThrow(
    /Fewer tokens reads text as other tokens than the dense model.*Compare bits per byte instead/,
  )
  const settings = { decoding: { kind: 'sampling', temperature: 0 }, template: 'raw', maxTokens: 6, seed: 0, alternatives: 1 }
  const { inspected } = await inspect({
    kind: 'generation',
    dense: true,
    runs: [1],
    prompts: [{ text: 'Once upon a time' }],
    settings,
  } as never)
  expect(inspected.kind === 'generation' && inspected.columns.map(({ answers, equal }) => [answers, equal])).toEqual([
    [1, null],
    [1, null],
  ])
})
