import { cpSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
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
  const { measuredAt, step = '', contents, ...measured } = await figures()
  expect(measured).toMatchObject({ windows: 4, sequenceLength: 256 })
  expect(measuredAt).toBeGreaterThan(past.getTime())
  const told = workbench.events.flatMap(({ name, data }) => (name === 'transfer changed' ? [data.transfer] : []))
  const [reading, over] = [told.find(({ totalBytes, turns }) => totalBytes && !turns), told.at(-1)]
  expect(reading?.doneBytes, 'says how much of the model is read, and then how many turns are done').toBeGreaterThan(0)
  expect(over).toMatchObject({ about: model.id, status: 'done', doneBytes: reading?.totalBytes, turns: { done: over?.turns?.total } })
  const windows = join(import.meta.dirname, '../../fixtures/texts/wikitext-2-test.txt')
  const runWith = async (precision: 'float32' | 'bfloat16', length: number) => {
    const data = { source: windows, sequenceLength: length, windows: 2 }
    const shared = { method: 'dense', amount: { sparsity: 0 }, options: {}, seed: 0, beginToken: 'auto', backend: 'auto' } as const
    const request = { ...shared, precision, measures: [{ kind: 'perplexity' as const, data, name: 'test' }] }
    const { id } = await call('runs.create', { model: model.id, request })
    await runEnded(workbench, id)
    const recorded = new DatabaseSync(join(workbench.folder, 'history.sqlite'), { readOnly: true })
    const count = recorded.prepare('SELECT count(*) AS steps FROM steps WHERE run = ? AND name = ?')
    const has = (name = '') => count.get(id, name)?.steps === 1
    const [measuredBegin, readModel] = [has(step), has(contents?.step)]
    recorded.close()
    return { ...(await call('runs.get', { id })), measuredBegin, readModel }
  }
  const found = await runWith('bfloat16', 32)
  expect(found.beginToken?.figures).toEqual(measured)
  expect([found.measuredBegin, found.readModel], 'measured when the model was added').toEqual([false, false])
  expect(found.fingerprint).toBe(contents?.fingerprint)

  const now = new Date(Date.now() + 60_000)
  utimesSync(join(path, 'model.safetensors'), now, now)
  await eventually(async () => (await call('models.get', { id: model.id })).beginFigures === null || null, 'the figures to be gone', 20_000)
  utimesSync(join(path, 'model.safetensors'), past, past)

  const { beginToken, parameters, measuredBegin } = await runWith('float32', 64)
  expect(measuredBegin).toBe(true)
  expect(beginToken).toEqual({ asked: 'auto', begins: lowersClearly(measured), token: '<s>', figures: measured })
  expect(parameters.beginToken).toBe('auto')
  expect(await figures()).toMatchObject({ ...measured, step })
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
