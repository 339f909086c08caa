import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { StepResult } from '#engine/steps/step-name.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import type { RunHost } from '#engine/tasks/run/run-steps.ts'
import { expectedOf, referenceModel } from '../../../fixtures/reference.ts'

const windows = (name: string) => join(import.meta.dirname, '../../../fixtures/reference', `${name}-windows.json`)

/** A host that keeps steps as JSON. With `stopAfter`, the run fails when it tries to write one more. */
function hostOn(steps: Map<string, string>, stopAfter = Number.POSITIVE_INFINITY): RunHost {
  return {
    steps: {
      folder: tmpdir(),
      get: async (name) => (steps.has(name) ? (JSON.parse(steps.get(name) as string) as StepResult) : undefined),
      async put(name, value) {
        if (steps.size >= stopAfter) throw new Error('killed')
        steps.set(name, JSON.stringify({ value }))
      },
    },
    emit: () => undefined,
    signal: new AbortController().signal,
  }
}

test('on ggml a killed run of 2SSP resumes, and keeps, removes and scores what the reference did', async () => {
  const recorded = (
    await expectedOf<{ '2ssp': { rate: number; kept_neurons: number[][]; removed_attention_in_order: number[]; ppl_test_f64: number }[] }>(
      'stories260k',
    )
  )['2ssp'].find(({ rate }) => rate === 0.5)
  const request: RunRequest = {
    model: await referenceModel('stories260k'),
    method: '2ssp',
    amount: { sparsity: 0.5 },
    options: {},
    seed: 0,
    calibration: { source: windows('calibration'), sequenceLength: 256 },
    measures: [{ kind: 'perplexity', data: { source: windows('test'), sequenceLength: 256 }, name: 'test' }],
    backend: 'ggml',
  }
  const steps = new Map<string, string>()
  // When it fails, the first stage's pass and one round of the second are done.
  await expect(executeRun(request, hostOn(steps, 2))).rejects.toThrow('killed')
  const done = new Map(steps)
  expect(done.size).toBe(2)

  const document = await executeRun(request, hostOn(steps))
  for (const [name, value] of done) expect(steps.get(name), 'a finished step is reused unchanged').toBe(value)
  expect(document.backend).toBe('ggml-cpu')
  expect(document.plan.blocks.map(({ mlp }) => (mlp === 'removed' ? [] : mlp.kept))).toEqual(recorded?.kept_neurons)
  expect(document.decisions.map(({ block }) => block)).toEqual(recorded?.removed_attention_in_order)
  const perplexity = document.measures.find(({ name }) => name === 'perplexity')?.value ?? Number.NaN
  expect(Math.abs(perplexity / (recorded?.ppl_test_f64 ?? Number.NaN) - 1)).toBeLessThan(1e-4)
})
