import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { BulkAction, SelectionInput } from '#contract/runs/bulk.ts'
import { connect } from '#db/database.ts'
import { eventually } from '../../eventually.ts'
import { type Opened, oneRun, openedWorkbench, runEnded, smallGrid } from '../opened.ts'

const many = 130

/** Waiting runs in a paused queue; the tests say where they are more than a screen loads. */
async function waitingRuns(workbench: Opened, count: number): Promise<string[]> {
  await workbench.call('queue.pause', {})
  const ids: string[] = []
  for (let seed = 0; seed < count; seed += 1) ids.push((await oneRun(workbench, {}, seed)).id)
  return ids
}

const everything: SelectionInput = { filter: {} }
const act = ({ call }: Opened, kind: Exclude<BulkAction['kind'], 'mark'>, selection: SelectionInput) =>
  call('runs.act', { selection, action: { kind } })
const orderOf = async ({ call }: Opened) =>
  (await call('queue.get', {})).runs.filter(({ status }) => status === 'queued').map(({ id }) => id)
const statusOf = async ({ call }: Opened, id: string) => (await call('runs.get', { id })).status

test('cancelling a query acts on every run that it finds, says how many, and is undone whole', async () => {
  await using workbench = await openedWorkbench()
  const ids = await waitingRuns(workbench, many)
  await workbench.call('runs.cancel', { ids: ids.slice(0, 7) })
  const before = await orderOf(workbench)
  expect(await workbench.call('runs.selected', { selection: everything })).toMatchObject({
    runs: many,
    able: { cancel: many - 7, resume: 7, enqueue: 0, unarchive: 0, mark: many },
    statuses: { queued: many - 7, cancelled: 7 },
  })
  const result = await act(workbench, 'cancel', everything)
  expect(result).toMatchObject({ runs: many, changed: many - 7 })
  expect(await orderOf(workbench)).toEqual([])
  expect(await workbench.call('runs.undo', { undo: result.undo as string })).toEqual({ runs: many - 7, left: 0 })
  expect(await orderOf(workbench)).toEqual(before)
  expect(await statusOf(workbench, ids[0] as string)).toBe('cancelled')
  await expect(workbench.call('runs.undo', { undo: result.undo as string })).rejects.toMatchObject({ code: 'not-found' })
})

test('a selection of ids within a filter leaves those that the filter hides, and one of a filter leaves the exceptions', async () => {
  await using workbench = await openedWorkbench()
  const [first, second, third] = (await waitingRuns(workbench, 3)) as [string, string, string]
  await workbench.call('runs.update', { ids: [second], addTags: ['hidden'], notes: 'Own.' })
  const notesOf = async (ids: string[]) => (await workbench.call('runs.selected', { selection: { ids } })).notes
  expect([await notesOf([second]), await notesOf([first]), await notesOf([first, second])]).toEqual(['Own.', '', null])
  const shown = { conditions: [{ field: 'tag', is: 'absent' as const }] }
  expect(await act(workbench, 'archive', { ids: [first, second], filter: shown })).toMatchObject({ runs: 1, changed: 1 })
  expect(await orderOf(workbench)).toEqual([second, third])
  expect(await act(workbench, 'archive', { filter: {}, except: [third] })).toMatchObject({ runs: 1, changed: 1 })
  expect(await orderOf(workbench)).toEqual([third])
  await expect(workbench.call('runs.act', { selection: {}, action: { kind: 'archive' } })).rejects.toMatchObject({ code: 'invalid' })
})

test('archiving queued runs and undoing returns them to their old places, also when the queue was moved since', async () => {
  await using workbench = await openedWorkbench()
  const ids = await waitingRuns(workbench, 6)
  const [a, b, c, d, e, f] = ids as [string, string, string, string, string, string]
  const { undo, waited } = await act(workbench, 'archive', { ids: [b, e] })
  expect(waited).toBe(2)
  expect(await statusOf(workbench, b)).toBe('draft')
  await workbench.call('queue.move', { id: f, before: a })
  const { id: later } = await oneRun(workbench, {}, 99)
  await workbench.call('runs.undo', { undo: undo as string })
  expect(await orderOf(workbench)).toEqual([f, a, b, c, d, e, later])
  expect((await workbench.call('runs.query', { archived: 'only' })).total).toBe(0)
})

test('running again from the beginning keeps what a run found until it starts, so that undoing brings it back', async () => {
  await using workbench = await openedWorkbench()
  const { id } = await oneRun(workbench)
  const done = await runEnded(workbench, id)
  await workbench.call('queue.pause', {})
  const { undo } = await act(workbench, 'retry', { ids: [id] })
  expect(await orderOf(workbench)).toEqual([id])
  await workbench.call('runs.undo', { undo: undo as string })
  expect(await workbench.call('runs.get', { id })).toEqual(done)
  await act(workbench, 'retry', { ids: [id] })
  await workbench.call('queue.resume', {})
  const again = await runEnded(workbench, id)
  expect(again).toMatchObject({ status: 'done', attempts: 2 })
  expect(again.startedAt).toBeGreaterThan(done.startedAt as number)
  const { events } = await workbench.call('runs.events', { id })
  expect(events.filter(({ event }) => event.type === 'measure')).toHaveLength(1)
})

test('undoing the cancellation of a running run puts it first in the queue with its steps', async () => {
  await using workbench = await openedWorkbench()
  const { id } = await oneRun(workbench, { rounds: 400, stepMilliseconds: 20 })
  await eventually(async () => (await workbench.call('runs.get', { id })).stepsDone > 1, 'some steps')
  const [other] = await waitingRuns(workbench, 1)
  const { undo } = await act(workbench, 'cancel', everything)
  expect([await statusOf(workbench, id), await statusOf(workbench, other as string)]).toEqual(['cancelled', 'cancelled'])
  await workbench.call('runs.undo', { undo: undo as string })
  expect(await orderOf(workbench)).toEqual([id, other])
  expect((await workbench.call('runs.get', { id })).stepsDone).toBeGreaterThan(1)
})

test('undoing leaves runs that were computed since, and says so', async () => {
  await using workbench = await openedWorkbench()
  const [first, second] = (await waitingRuns(workbench, 2)) as [string, string]
  await workbench.call('runs.cancel', { ids: [first, second] })
  const { undo } = await act(workbench, 'resume', { ids: [first] })
  await workbench.call('queue.resume', {})
  await runEnded(workbench, first)
  expect(await workbench.call('runs.undo', { undo: undo as string })).toEqual({ runs: 0, left: 1 })
  expect(await statusOf(workbench, first)).toBe('done')
})

test('tags, notes and stars of a selection are undone run by run', async () => {
  await using workbench = await openedWorkbench()
  const [first, second] = (await waitingRuns(workbench, 2)) as [string, string]
  await workbench.call('runs.update', { ids: [first], addTags: ['old'], notes: 'mine', starred: true })
  const { undo, changed } = await workbench.call('runs.act', {
    selection: everything,
    action: { kind: 'mark', addTags: ['new'], removeTags: ['old'], notes: 'all', starred: true },
  })
  expect(changed).toBe(2)
  expect(await workbench.call('runs.selected', { selection: everything })).toMatchObject({ tags: ['new'] })
  await workbench.call('runs.undo', { undo: undo as string })
  expect(await workbench.call('runs.get', { id: first })).toMatchObject({ tags: ['old'], notes: 'mine', starred: true })
  expect(await workbench.call('runs.get', { id: second })).toMatchObject({ tags: [], notes: '', starred: false })
})

test('an archived experiment keeps no run in the queue, and bringing it back starts none', async () => {
  await using workbench = await openedWorkbench()
  await workbench.call('queue.pause', {})
  const { experiment, runs } = await workbench.call('experiments.create', { name: 'grid', grid: smallGrid(workbench) })
  const ids = runs.map(({ id }) => id)
  const archived = await workbench.call('experiments.archive', { id: experiment.id })
  expect(archived.waited.sort()).toEqual([...ids].sort())
  await workbench.call('queue.resume', {})
  const back = await workbench.call('experiments.unarchive', { id: experiment.id })
  expect(back.waited.sort()).toEqual([...ids].sort())
  expect(back.experiment).toMatchObject({ archived: false, counts: { draft: ids.length } })
  expect((await workbench.call('queue.get', {})).runs).toEqual([])
})

test('undoing the archiving of an experiment returns its runs to the queue', async () => {
  await using workbench = await openedWorkbench()
  await workbench.call('queue.pause', {})
  const { experiment } = await workbench.call('experiments.create', { name: 'grid', grid: smallGrid(workbench) })
  await oneRun(workbench)
  const before = await orderOf(workbench)
  const { undo } = await workbench.call('experiments.archive', { id: experiment.id })
  expect(await orderOf(workbench)).toHaveLength(1)
  await workbench.call('runs.undo', { undo: undo as string })
  expect(await orderOf(workbench)).toEqual(before)
  expect(await workbench.call('experiments.get', { id: experiment.id })).toMatchObject({ archived: false })
})

test('an experiment that was archived while a run was running can be deleted when the run has ended', async () => {
  await using workbench = await openedWorkbench()
  const options = { rounds: 400, stepMilliseconds: 10 }
  const { experiment } = await workbench.call('experiments.create', { name: 'grid', grid: smallGrid(workbench, options) })
  const running = await eventually(
    async () => (await workbench.call('queue.get', {})).runs.find(({ status }) => status === 'running'),
    'a running run',
  )
  await workbench.call('experiments.archive', { id: experiment.id })
  expect(await statusOf(workbench, running.id)).toBe('running')
  await expect(workbench.call('experiments.remove', { id: experiment.id })).rejects.toMatchObject({ code: 'conflict' })
  await workbench.call('runs.cancel', { ids: [running.id] })
  expect(await workbench.call('runs.get', { id: running.id })).toMatchObject({ status: 'cancelled', archived: true })
  await workbench.call('experiments.remove', { id: experiment.id })
  expect((await workbench.call('runs.query', { archived: 'all' })).total).toBe(0)
  const db = connect(join(workbench.folder, 'history.sqlite'))
  expect(db.prepare('SELECT count(*) FROM runs').pluck().get()).toBe(0)
  db.close()
})

test('notes that another process changed meanwhile are not overwritten, and the error shows them', async () => {
  await using first = await openedWorkbench()
  const [one, two] = (await waitingRuns(first, 2)) as [string, string]
  const { experiment } = await first.call('experiments.create', { name: 'grid', grid: smallGrid(first), start: 'draft' })
  const second = await openedWorkbench({ folder: first.folder })
  await second.call('runs.update', { ids: [one], notes: 'theirs', notesBefore: '' })
  await second.call('experiments.update', { id: experiment.id, notes: 'theirs' })
  await second.call('models.update', { id: first.model.id, notes: 'theirs' })
  await second.close()
  const refused = { code: 'conflict', message: expect.stringMatching(/changed elsewhere.*“theirs”/), details: { notes: 'theirs' } }
  const mine = { name: 'renamed', notes: 'mine', notesBefore: '' }
  await expect(first.call('runs.update', { ids: [two, one], ...mine })).rejects.toMatchObject(refused)
  await expect(first.call('experiments.update', { id: experiment.id, ...mine })).rejects.toMatchObject(refused)
  await expect(first.call('models.update', { id: first.model.id, ...mine })).rejects.toMatchObject(refused)
  const action = { kind: 'mark' as const, notes: 'mine', notesBefore: '' }
  await expect(first.call('runs.act', { selection: { ids: [two, one] }, action })).rejects.toMatchObject(refused)
  expect(await first.call('runs.get', { id: one })).toMatchObject({ notes: 'theirs', name: expect.not.stringMatching('renamed') })
  expect(await first.call('runs.get', { id: two })).toMatchObject({ notes: '', name: expect.not.stringMatching('renamed') })
  expect(await first.call('models.get', { id: first.model.id })).toMatchObject({ notes: 'theirs', name: 'tiny' })
  await first.call('runs.update', { ids: [one], notes: 'mine', notesBefore: 'theirs' })
  expect(await first.call('runs.selected', { selection: { ids: [one, two] } })).toMatchObject({ notes: null, noted: 1 })
})
