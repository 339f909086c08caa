import { cpSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { lowersClearly } from '#contract/data/begin-token.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { eventually } from '../../eventually.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { openedWorkbench, runEnded } from '../opened.ts'

const home = scratchFolder('begin')

test('a model states both perplexities once they were measured, until its files change; a run with auto agrees and measures them too', async () => {
  const path = join(home, 'stories')
  cpSync(await referenceModel('stories260k'), path, { recursive: true })
  const past = new Date(Date.now() - 60_000)
  for (const file of ['model.safetensors', 'config.json', 'tokenizer.json', 'tokenizer_config.json'])
    utimesSync(join(path, file), past, past)
  await using workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath: path })
  const { call, model } = workbench
  expect(model.description.begins).toEqual({ token: '<s>', added: true })
  expect(model.beginFigures).toBeNull()
  const figures = () => eventually(async () => (await call('models.get', { id: model.id })).beginFigures, 'the figures', 60_000)
  const [first, second] = [await call('models.measureBegin', { id: model.id }), await call('models.measureBegin', { id: model.id })]
  expect(second.id, 'a model is measured once at a time').toBe(first.id)
  const { measuredAt, ...measured } = await figures()
  expect(measured).toMatchObject({ windows: 4, sequenceLength: 256 })
  expect(measuredAt).toBeGreaterThan(past.getTime())

  const now = new Date(Date.now() + 60_000)
  utimesSync(join(path, 'model.safetensors'), now, now)
  await eventually(async () => (await call('models.get', { id: model.id })).beginFigures === null || null, 'the figures to be gone', 20_000)
  utimesSync(join(path, 'model.safetensors'), past, past)

  const windows = join(import.meta.dirname, '../../fixtures/texts/wikitext-2-test.txt')
  const run = await call('runs.create', {
    model: model.id,
    request: {
      method: 'dense',
      amount: { sparsity: 0 },
      options: {},
      seed: 0,
      measures: [{ kind: 'perplexity', data: { source: windows, sequenceLength: 64, windows: 2 }, name: 'test' }],
      beginToken: 'auto',
      backend: 'auto',
    },
  })
  await runEnded(workbench, run.id)
  const { beginToken, parameters } = await call('runs.get', { id: run.id })
  expect(beginToken).toEqual({ asked: 'auto', begins: lowersClearly(measured), token: '<s>', figures: measured })
  expect(parameters.beginToken).toBe('auto')
  expect(await figures()).toMatchObject(measured)
})

test('a model without a begin token has nothing to measure', async () => {
  await using workbench = await openedWorkbench({
    computeCommand: defaultComputeCommand(),
    modelPath: await referenceModel('mistral-tiny'),
  })
  await expect(workbench.call('models.measureBegin', { id: workbench.model.id })).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringContaining('has no begin token'),
  })
})
