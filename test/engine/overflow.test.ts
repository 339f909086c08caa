import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { requireNumbers } from '#engine/model/finite.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { hostIn } from '../fixtures/run-host.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { makeValidModel, sizes, writeModelFiles } from './checkpoint/valid-model.ts'

const { bf16 } = await openBackend('auto')
const scratch = scratchFolder('overflow')

/** Runs a request on a model with the entries of some tensors multiplied. */
async function run(changed: Record<string, number>, request: Partial<RunRequest>) {
  const folder = mkdtempSync(join(scratch, 'model-'))
  const model = makeValidModel()
  for (const [name, factor] of Object.entries(changed)) {
    const values = new Float32Array(model.tensors[name]?.bytes.buffer as ArrayBuffer)
    for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) * factor
  }
  await writeModelFiles(folder, model)
  const source = join(folder, 'ids.json')
  writeFileSync(source, JSON.stringify(Array.from({ length: 64 }, (_, i) => (i * 37) % sizes.vocabulary)))
  const data = { source, sequenceLength: 16 }
  const perplexity = { kind: 'perplexity' as const, data, name: 'test' }
  const whole = {
    model: folder,
    method: 'dense',
    amount: { sparsity: 0 },
    options: {},
    seed: 0,
    calibration: data,
    measures: [perplexity],
    backend: 'auto' as const,
    ...request,
  }
  return executeRun(whole, hostIn(folder))
}

test('a sound model has a perplexity that is a number', async () => {
  const { measures } = await run({}, {})
  expect(measures.find(({ name }) => name === 'perplexity')?.value).toBeGreaterThan(1)
})

test.each([
  [
    'the neurons of block 1',
    { 'model.layers.1.mlp.gate_proj.weight': 1e25, 'model.layers.1.mlp.up_proj.weight': 1e20 },
    /block 1, with model\.layers\.1\.mlp\.gate_proj\.weight, whose largest entry is \d/,
  ],
  [
    'the output of block 0',
    { 'model.layers.0.mlp.down_proj.weight': 3e38, 'model.layers.0.mlp.up_proj.weight': 1e10 },
    /block 0, with model\.layers\.0\.mlp\.down_proj\.weight/,
  ],
])('finite weights that overflow in %s give one error that names block and tensor', async (_where, changed, place) => {
  const error = await run(changed, {}).catch((thrown: unknown) => thrown as Error)
  expect(error).toMatchObject({ code: 'invalid', message: expect.stringMatching(/came out infinite or not a number\. It began in /) })
  expect((error as Error).message).toMatch(place)
})

test.each(['2ssp', 'shortgpt', 'blockpruner'])('the scores of %s are checked too', async (method) => {
  const changed = { 'model.layers.1.mlp.gate_proj.weight': 1e25, 'model.layers.1.mlp.up_proj.weight': 1e20 }
  const error = await run(changed, { method, amount: { sparsity: 0.5 }, measures: [] }).catch((thrown: unknown) => thrown as Error)
  expect(error).toMatchObject({ code: 'invalid', message: expect.stringMatching(/block 1, with model\.layers\.1\.mlp\.gate_proj\.weight/) })
})

const down = 'model.layers.1.mlp.down_proj.weight'

test.skipIf(!bf16).each(['2ssp', 'shortgpt', 'blockpruner', 'evopress', 'window_based'])(
  'mixed precision refuses what is no number in a weight, and takes one that is almost zero: %s',
  async (method) => {
    const request = { method, amount: { sparsity: 0.5 }, precision: 'mixed' as const, measures: [] }
    for (const factor of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const error = await run({ [down]: factor }, request).catch((thrown: unknown) => thrown as Error)
      expect(error).toMatchObject({ code: 'invalid', message: expect.stringContaining(down) })
    }
    const almostZero = { [down]: 1e-40, 'model.layers.0.self_attn.o_proj.weight': 1e-42 }
    expect((await run(almostZero, request)).plan).toEqual((await run(almostZero, { ...request, precision: 'float32' })).plan)
  },
)

test('NaN is found anywhere in a value that would be stored', () => {
  expect(() =>
    requireNumbers(
      {
        scores: [
          [1, 2],
          [3, Number.NaN],
        ],
      },
      'These scores',
    ),
  ).toThrow('These scores came out infinite or not a number.')
  expect(() => requireNumbers({ scores: [[1, Number.POSITIVE_INFINITY]], text: 'x', none: null }, '')).not.toThrow()
})
