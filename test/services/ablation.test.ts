import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { GridInput } from '#contract/experiments/experiments.ts'
import { connectWorkbench } from '#server/client.ts'
import { run } from '../cli/espalier.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { endProgram, killPrograms, startProgram } from '../server/started.ts'

const home = mkdtempSync(join(tmpdir(), 'espalier-ablation-'))
afterAll(() => {
  killPrograms()
  rmSync(home, { recursive: true, force: true })
})

const fixture = (name: string) => join(import.meta.dirname, '..', 'fixtures', 'reference', `${name}-windows.json`)
const options = { sparsities: [0.2, 0.4, 0.6], windows: 8 }

test('an ablation is killed, resumed, and there with its plot and table after a restart; the command line leaves the same', async () => {
  const model = await referenceModel('stories260k')
  const data = join(home, 'data')
  const first = await startProgram(data)
  const asked = await connectWorkbench(first)
  const { id: modelId } = await asked.call('models.add', { path: model })
  const grid: GridInput = {
    models: [modelId],
    methods: [{ method: 'l1_norm', options }],
    amounts: [],
    calibration: { source: fixture('calibration'), sequenceLength: 256 },
    measures: [{ kind: 'perplexity', name: 'test-windows.json', data: { source: fixture('test'), sequenceLength: 256 } }],
  }
  const { runs, experiment } = await asked.call('experiments.create', { name: 'L1 against L2', grid })
  expect(runs.map(({ method, nominal, baseline }) => ({ method, nominal, baseline }))).toEqual([
    { method: 'dense', nominal: 0, baseline: true },
    { method: 'l1_norm', nominal: null, baseline: false },
  ])
  const id = runs[1]?.id as string
  await expect.poll(async () => (await asked.call('runs.get', { id })).stepsDone, { interval: 10 }).toBeGreaterThan(2)
  await endProgram(first, 'SIGKILL')
  await asked.close()

  const second = await startProgram(data)
  const again = await connectWorkbench(second)
  const killed = await again.call('runs.get', { id })
  expect(killed).toMatchObject({ study: null })
  expect((await again.call('queue.get', {})).takenUp?.resumed.map((run) => run.id)).toEqual([id])
  await expect.poll(async () => (await again.call('runs.get', { id })).status).toBe('done')
  const done = await again.call('runs.get', { id })
  expect(done.stepsDone).toBeGreaterThan(killed.stepsDone)
  await endProgram(second, 'SIGTERM')
  await again.close()

  const third = await startProgram(data)
  const later = await connectWorkbench(third)
  const kept = await later.call('runs.get', { id })
  expect(kept).toMatchObject({ method: 'l1_norm', hasPlan: false, study: done.study })
  expect(kept.study?.table.rows).toHaveLength(6)
  expect(kept.study?.plot.series.map(({ points }) => points.length)).toEqual([3, 3])
  expect((await later.call('runs.studyFile', { id, format: 'svg' })).content.match(/<circle/g)).toHaveLength(6)
  expect((await later.call('runs.studyFile', { id, format: 'latex' })).content).toContain('\\toprule')
  const { content } = await later.call('experiments.export', { id: experiment.id })
  const { experiment: copy } = await later.call('experiments.import', { content })
  const { rows } = await later.call('runs.query', { experiment: copy.id, conditions: [{ field: 'method', is: 'equal', value: 'l1_norm' }] })
  expect((await later.call('runs.get', { id: rows[0]?.id as string })).study).toEqual(kept.study)
  await endProgram(third, 'SIGTERM')
  await later.close()

  const output = join(home, 'tables')
  const flags = ['--model', model, '--ablation=l1_norm', '--option=sparsities=[0.2,0.4,0.6]', '--option=windows=8', '--sequence_length=256']
  const command = await run(home, [
    ...flags,
    `--calibration_data=${fixture('calibration')}`,
    `--eval_data=${fixture('test')}`,
    `--output=${output}`,
  ])
  expect(command.code, command.stderr).toBe(0)
  const listed = JSON.parse((await run(home, ['runs', 'list', '--method', 'l1_norm', '--json'])).stdout) as { rows: { id: string }[] }
  const shown = JSON.parse((await run(home, ['runs', 'show', listed.rows[0]?.id as string, '--json'])).stdout) as typeof kept
  const numbers = ({ study }: typeof kept) => study?.table.rows.map((row) => row.slice(0, 4))
  expect(listed.rows.length).toBe(3)
  expect(numbers(shown)).toEqual(numbers(kept))
  expect(readFileSync(join(output, 'l1_norm.svg'), 'utf8').match(/<circle/g)).toHaveLength(6)
})
