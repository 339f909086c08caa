import { join } from 'node:path'
import { expect } from 'vitest'
import type { ApiEvent } from '#contract/events.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import type { Door } from '#server/door.ts'

const sample = join(import.meta.dirname, '../../resources/sample-model')
const text = (file: string, windows: number) => ({ source: join(sample, file), sequenceLength: 128, windows })
const seldom = { interval: 100 }

/** What a door returned, to be compared after a restart. */
export interface Seen {
  experiment: string
  runs: { id: string; reached: number | null; measures: RunEntry['measures'] }[]
  transcript: string
}

/** The main path through a door: two methods at two sparsities on the sample model, then progress, comparison and playground. */
export async function goThrough(door: Door): Promise<Seen> {
  const events: ApiEvent[] = []
  const stop = door.subscribe((event) => events.push(event))
  await expect.poll(async () => (await door.call('models.list', {})).length, seldom).toBeGreaterThan(0)
  const [model] = await door.call('models.list', {})
  const { experiment } = await door.call('experiments.create', {
    name: 'through a door',
    grid: {
      models: [model?.id ?? ''],
      methods: [{ method: '2ssp' }, { method: 'shortgpt' }],
      amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }],
      calibration: text('calibration.txt', 4),
      measures: [{ kind: 'perplexity', name: 'test', data: text('test.txt', 4) }],
    },
  })
  await expect.poll(async () => (await door.call('experiments.get', { id: experiment.id })).counts, seldom).toEqual({ done: 5 })
  const { rows } = await door.call('runs.query', { experiment: experiment.id })
  expectReported(events, rows)
  await compareRuns(door, rows)
  const transcript = await talk(door, rows)
  stop()
  return { experiment: experiment.id, runs: rows.map(({ id, reached, measures }) => ({ id, reached, measures })), transcript }
}

/** Expects that every run reported its start, its end and the steps to its plan without being polled. */
function expectReported(events: readonly ApiEvent[], rows: readonly RunEntry[]): void {
  for (const { id, baseline } of rows) {
    const statuses = events.flatMap((event) => (event.name === 'run changed' && event.data.run.id === id ? [event.data.run.status] : []))
    expect(statuses).toEqual(expect.arrayContaining(['running', 'done']))
    const reported = events.filter((event) => event.name === 'run event' && event.data.run === id)
    if (!baseline) expect(reported.length).toBeGreaterThan(0)
  }
}

async function compareRuns(door: Door, rows: readonly RunEntry[]): Promise<void> {
  const ids = rows.map(({ id }) => id)
  const compared = await door.call('compare.get', { ids })
  const dense = rows.find(({ baseline }) => baseline)
  expect(compared.baseline).toBe(dense?.id)
  const perplexity = (run: RunEntry | undefined) => run?.measures.find(({ name }) => name === 'perplexity')?.value ?? Number.NaN
  for (const run of rows) expect(perplexity(run)).toBeGreaterThanOrEqual(perplexity(dense))
  const table = await door.call('compare.table', { ids, format: 'latex' })
  expect(table.content).toContain('\\begin{tabular}')
}

async function talk(door: Door, rows: readonly RunEntry[]): Promise<string> {
  const [first, second] = rows.filter(({ baseline }) => !baseline)
  const columns = [first, second].map((run) => ({ run: run?.id ?? '' }))
  const { id } = await door.call('playground.start', { columns, prompts: [{ text: 'The tree' }], settings: { maxTokens: 8 } })
  await expect.poll(async () => (await door.call('transcripts.get', { id })).status, seldom).toBe('done')
  const { answers } = await door.call('transcripts.get', { id })
  expect(answers.map(({ column }) => column).sort()).toEqual([0, 1])
  for (const { tokens } of answers) expect(tokens.length).toBeGreaterThan(0)
  return id
}

export async function findAgain(door: Door, seen: Seen): Promise<void> {
  const { rows } = await door.call('runs.query', { experiment: seen.experiment })
  expect(rows.map(({ id, reached, measures }) => ({ id, reached, measures }))).toEqual(seen.runs)
  expect(await door.call('transcripts.get', { id: seen.transcript })).toMatchObject({ id: seen.transcript, status: 'done' })
}
