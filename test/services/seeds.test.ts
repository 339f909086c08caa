import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { GridInput } from '#contract/experiments/experiments.ts'
import { cutWindows } from '#engine/data/windows.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { hashOf } from '../fixtures/hash-of.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { openedWorkbench, runEnded } from './opened.ts'

const text = (name: string) => join(import.meta.dirname, '../fixtures/texts', `wikitext-2-${name}.txt`)

test('five seeds draw five sets of calibration windows, which each run states, and Compare shows their mean and deviation', async () => {
  const modelPath = await referenceModel('stories260k')
  await using workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath })
  const { call, model } = workbench
  const grid: GridInput = {
    models: [model.id],
    methods: [{ method: '2ssp', options: { windows: 8 } }, { method: 'shortgpt' }],
    amounts: [{ sparsity: 0.4 }],
    seeds: [0, 1, 2, 3, 4],
    calibration: { source: text('valid'), sequenceLength: 64 },
    measures: [{ kind: 'perplexity', data: { source: text('test'), sequenceLength: 64, windows: 400 }, name: 'test' }],
    backend: 'auto',
  }
  const { runs, experiment } = await call('experiments.create', { name: 'Seeds', grid })
  const ended = []
  for (const { id } of runs) ended.push(await runEnded(workbench, id))
  expect(ended.map(({ status, problem }) => [status, problem])).toEqual(Array(11).fill(['done', null]))

  const [dense, ...pruned] = ended
  expect(dense?.calibration).toBeNull()
  const tokenizer = await openTokenizer(modelPath)
  const inOrder = async (name: string) => cutWindows(tokenizer.encode(await readFile(text(name), 'utf8')), 64)
  const [calibration, evaluation] = [await inOrder('valid'), await inOrder('test')]
  const twoStage = pruned.filter(({ method }) => method === '2ssp')
  expect(twoStage.map((run) => run.calibration?.seed)).toEqual([0, 1, 2, 3, 4])
  expect(twoStage[0]?.calibration).toEqual({
    source: text('valid'),
    revision: null,
    sequenceLength: 64,
    windows: 8,
    seed: 0,
    hash: hashOf(calibration.slice(0, 8)),
  })
  for (const method of ['2ssp', 'shortgpt'])
    expect(new Set(pruned.filter((run) => run.method === method).map((run) => run.calibration?.hash)).size, method).toBe(5)
  expect(new Set(twoStage.map(({ plan }) => JSON.stringify(plan))).size, 'plans follow the windows').toBeGreaterThan(1)

  const count = evaluation.length
  const measured = { source: text('test'), revision: null, sequenceLength: 64, windows: count, seed: 0, hash: hashOf(evaluation) }
  for (const run of ended) expect(run.evaluation).toEqual([measured])
  expect(dense?.remarks.join(' ')).toContain(`gives ${count} windows of 64 tokens, but 400 were requested; all ${count} are used`)

  const ids = runs.map(({ id }) => id)
  const compared = await call('compare.get', { ids })
  expect(compared.runs[1]?.calibration).toEqual(twoStage[0]?.calibration)
  const { content } = await call('compare.table', { ids, format: 'csv', overSeeds: true })
  const [header = '', ...rows] = content.trim().split(/\r?\n/)
  const row = rows.find((line) => line.includes('2SSP'))?.split(',') ?? []
  const at = (label: string) => Number(row[header.split(',').indexOf(label)])
  const values = twoStage.map((run) => run.measures.find(({ name }) => name === 'perplexity')?.value ?? Number.NaN)
  const logs = values.map(Math.log)
  const mean = logs.reduce((sum, value) => sum + value, 0) / 5
  const deviation = Math.sqrt(logs.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 4)
  expect(deviation).toBeGreaterThan(0)
  expect(at('Seeds')).toBe(5)
  expect(at('perplexity (test)')).toBeCloseTo(Math.exp(mean), 6)
  expect(at('perplexity (test) deviation as a factor')).toBeCloseTo(Math.exp(deviation), 6)

  // The losses of every window are kept, and go with an exported experiment.
  const lossesOf = async (some: readonly string[]) =>
    (await call('compare.get', { ids: [...some] })).runs.map(({ measures }) => measures.find(({ name }) => name === 'perplexity'))
  const kept = await lossesOf(ids)
  for (const measure of kept) {
    expect(measure?.losses).toHaveLength(count)
    const sum = measure?.losses?.reduce((all, loss) => all + loss, 0) ?? Number.NaN
    expect(Math.exp(sum / count)).toBeCloseTo(measure?.value ?? 0, 9)
  }
  const { content: file } = await call('experiments.export', { id: experiment.id })
  const { experiment: copy } = await call('experiments.import', { content: file })
  const { rows: copies } = await call('runs.query', { experiment: copy.id, columns: [], sort: [{ field: 'createdAt' }] })
  const found = await lossesOf(copies.map(({ id }) => id))
  expect(new Set(found.map((measure) => JSON.stringify(measure?.losses)))).toEqual(
    new Set(kept.map((measure) => JSON.stringify(measure?.losses))),
  )
})
