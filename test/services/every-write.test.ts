/**
 * Every statement that writes to the history fails once, with one of the faults in turn, while something that executes it continues. The list
 * of statements is complete by construction: the database reports what is prepared, and a statement that no action executes fails the test.
 */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import type Sqlite from 'better-sqlite3'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { CallName, Input, Output } from '#contract/api.ts'
import { toErrorMessage } from '#contract/errors.ts'
import { eventually } from '../eventually.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { patience } from '../patience.ts'

interface Fault {
  text: string
  code: string
  hits: number
}

const { watched, SqliteError } = vi.hoisted(() => ({
  watched: { prepared: new Set<string>(), executed: new Set<string>(), fault: undefined as Fault | undefined },
  SqliteError: { made: undefined as unknown as typeof Sqlite.SqliteError },
}))

vi.mock('better-sqlite3', async (original) => {
  const { default: Real } = await original<{ default: typeof Sqlite }>()
  SqliteError.made = Real.SqliteError
  return {
    default: class extends Real {
      override prepare = ((text: string) => {
        const statement = super.prepare(text)
        if (!statement.readonly) watch(statement, text.replaceAll(/\s+/g, ' ').trim())
        return statement
      }) as Sqlite.Database['prepare']
    },
  }
})

function watch(statement: Pick<Sqlite.Statement, 'run' | 'get' | 'all'>, text: string): void {
  watched.prepared.add(text)
  for (const how of ['run', 'get', 'all'] as const) {
    const real = statement[how].bind(statement)
    statement[how] = (...given: unknown[]): never => {
      watched.executed.add(text)
      const { fault } = watched
      if (fault?.text !== text) return real(...given) as never
      if (fault.hits++ === 0) setTimeout(() => (watched.fault = undefined), faultMilliseconds)
      throw new SqliteError.made(`injected ${fault.code}`, fault.code)
    }
  }
}

const faultMilliseconds = 40

const { openedWorkbench, oneRun, runEnded, smallGrid } = await import('./opened.ts')
const { connect } = await import('#db/database.ts')
type Opened = Awaited<ReturnType<typeof openedWorkbench>>

const folder = scratchFolder('test')
let workbench: Opened
let planned: string
let count = 0

/** Repeats a call that was refused for a fault, as a person would when it is over. */
async function ask<C extends CallName>(name: C, input: Input<C>): Promise<Output<C>> {
  for (;;) {
    try {
      return await workbench.call(name, input)
    } catch (thrown) {
      if (toErrorMessage(thrown).code !== 'disk' || watched.fault?.hits === 0) throw thrown
      await quiet()
    }
  }
}

/** Waits until the fault is over and nothing is in the way any more. */
async function quiet(): Promise<void> {
  await eventually(() => watched.fault === undefined, 'the end of the fault')
  await eventually(async () => (await workbench.call('queue.get', {})).obstacle === null, 'a history without an obstacle')
}

const asking = () => ({ call: ask as Opened['call'], model: workbench.model })

async function finishedRun(options: Record<string, unknown> = {}, seed = ++count): Promise<string> {
  const { id } = await oneRun(asking(), { rounds: 2, stepMilliseconds: 0, selects: true, [`own${count}`]: 1, ...options }, seed)
  const run = await runEnded(asking(), id)
  expect(run).toMatchObject({ status: 'done', problem: null, stepsDone: 2 })
  expect(run.decisions.length).toBe(2)
  return id
}

async function reopen(): Promise<void> {
  workbench = await workbench.reopened()
}

async function addedModel(mode: 'link' | 'copy') {
  const path = join(folder, 'given', `model-${++count}`)
  cpSync(workbench.model.path, path, { recursive: true })
  return ask('models.add', { path, mode, name: `model ${count}` })
}

const actions: Record<string, () => Promise<unknown>> = {
  reopen,
  run: () => finishedRun(),
  'a run that finds steps': async () => {
    await finishedRun({ shares: true }, ++count)
    await finishedRun({ shares: true }, count)
  },
  retry: async () => {
    const id = await finishedRun()
    await ask('runs.retry', { ids: [id] })
    expect((await runEnded(asking(), id)).status).toBe('done')
  },
  'remove a run': async () => {
    const id = await finishedRun()
    await ask('runs.update', { ids: [id], name: 'renamed', notes: 'a note', addTags: ['tag'], starred: true })
    await ask('runs.archive', { ids: [id] })
    await ask('runs.unarchive', { ids: [id] })
    const { undo } = await ask('runs.archive', { ids: [id] })
    if (undo === null) throw new Error('Archiving cannot be undone.')
    await ask('runs.undo', { undo })
    await ask('runs.archive', { ids: [id] })
    await ask('runs.remove', { ids: [id] })
  },
  'an experiment': async () => {
    await ask('queue.pause', {})
    const { experiment, runs } = await ask('experiments.create', { name: `experiment ${++count}`, grid: smallGrid(workbench) })
    await ask('queue.move', { id: runs[1]?.id as string, before: null })
    await ask('runs.cancel', { ids: [runs[0]?.id as string] })
    await ask('runs.pause', { ids: [runs[1]?.id as string] })
    await ask('runs.resume', { ids: [runs[1]?.id as string] })
    await ask('experiments.update', { id: experiment.id, name: 'renamed' })
    await ask('experiments.archive', { id: experiment.id })
    await ask('experiments.unarchive', { id: experiment.id })
    await ask('experiments.archive', { id: experiment.id })
    await ask('experiments.remove', { id: experiment.id })
    await ask('queue.resume', {})
  },
  talk: async () => {
    const columns = [{ run: planned }, { model: workbench.model.id }]
    const { id } = await ask('playground.start', { columns, prompts: [{ text: 'Who' }], settings: { maxTokens: 2 } })
    await eventually(async () => (await workbench.call('transcripts.get', { id })).status === 'done', 'the end of the talk')
    expect((await ask('transcripts.get', { id })).answers.length).toBe(2)
    await ask('transcripts.update', { id, vote: { prompt: 0, column: 1 } })
    const judging = await ask('judgings.start', { transcript: id })
    await ask('judgings.vote', { id: judging.id, pair: 0, vote: 'left' })
    await ask('judgings.vote', { id: judging.id, pair: 0, vote: null })
    await ask('judgings.remove', { id: judging.id })
    await ask('transcripts.remove', { ids: [id] })
  },
  settings: async () => {
    await ask('settings.update', { theme: count++ % 2 ? 'dark' : 'light' })
    await ask('engine.selfTest', {})
    const view = await ask('views.save', { name: 'a view', state: { filter: {}, columns: [], sort: [] } as never })
    await ask('views.remove', { id: view.id })
    const set = await ask('prompts.save', { name: 'prompts', prompts: ['One'] })
    await ask('prompts.remove', { id: set.id })
  },
  'a copied model': async () => {
    const { id } = await addedModel('copy')
    await ask('models.update', { id, name: 'renamed' })
    await ask('models.remove', { id })
    await ask('models.restore', { id })
    await ask('models.remove', { id })
  },
  'a forgotten model': async () => {
    const { id } = await addedModel('link')
    await ask('models.remove', { id })
    const direct = connect(join(folder, 'history.sqlite'))
    try {
      const isThere = () => direct.prepare('SELECT count(*) FROM models WHERE id = ?').pluck().get(id) === 1
      // The program is the only one whose prepared statements are watched.
      direct.exec(`UPDATE models SET removed_at = 1 WHERE id = '${id}'`)
      await reopen()
      await eventually(() => !isThere(), 'the end of the model')
    } finally {
      direct.close()
    }
  },
}

/** Which actions execute a statement. */
const executing = new Map<string, string[]>()

beforeAll(async () => {
  workbench = await openedWorkbench({ folder, retryMilliseconds: 20, onObstacle: () => {} })
  planned = await finishedRun()
  for (const [name, act] of Object.entries(actions)) {
    watched.executed.clear()
    await act()
    for (const text of watched.executed) executing.set(text, [...(executing.get(text) ?? []), name])
  }
}, 120_000 * patience)

afterAll(() => workbench.close())

test('some action executes every statement that writes', () => {
  expect([...watched.prepared].filter((text) => !executing.has(text))).toEqual([])
  expect(watched.prepared.size).toBeGreaterThan(50)
})

const codes = ['SQLITE_BUSY', 'SQLITE_FULL', 'SQLITE_IOERR_WRITE']
const seed = Number(process.env.ESPALIER_SEED ?? 1)

test(
  `no statement that fails ends the program or loses what was done (ESPALIER_SEED=${seed})`,
  async () => {
    for (const [index, [text, names]] of [...executing].entries()) {
      const code = codes[(index + seed) % codes.length] as string
      const name = (names.includes('reopen') ? 'reopen' : names[0]) as string
      const fault = { text, code, hits: 0 }
      watched.fault = fault
      try {
        await actions[name]?.()
        await quiet()
      } catch (thrown) {
        throw new Error(`"${name}" did not survive ${code} of: ${text}`, { cause: thrown })
      }
      expect(fault.hits, `"${name}" does not execute: ${text}`).toBeGreaterThan(0)
    }
    const { counts } = await workbench.call('runs.query', {})
    expect(Object.keys(counts)).toEqual(['done'])
  },
  480_000 * patience,
)
