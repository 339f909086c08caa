import { expect, test } from 'vitest'
import { eventually } from '../../eventually.ts'
import { heldRun, type Opened, oneRun, openedWorkbench, runEnded } from '../opened.ts'

/** How a workbench reported the ends of a run: its status, and whether another process ended it. */
const endsOf = ({ events }: Opened, id: string) =>
  events.flatMap((event) => {
    if (event.name !== 'run changed' || event.data.run.id !== id) return []
    const { run, elsewhere } = event.data
    return run.status === 'queued' || run.status === 'running' ? [] : [`${run.status}${elsewhere ? ' elsewhere' : ''}`]
  })

/** Begins a run in `first` that waits, and returns it once `second` lists it as running. */
async function runningOf(first: Opened, second: Opened, seed: number) {
  const held = heldRun(first)
  const { id } = await oneRun(first, held.options, seed)
  const isListed = () =>
    second.events.some(
      ({ name, data }) => name === 'queue changed' && data.queue.runs.some((run) => run.id === id && run.status === 'running'),
    )
  await eventually(isListed, 'the other workbench to list the run')
  return { id, letGo: held.letGo }
}

test('a run that another workbench finished or cancelled is reported once, and as ended elsewhere', async () => {
  await using first = await openedWorkbench()
  // Closed before the first one removes the folder.
  const second = await openedWorkbench({ folder: first.folder })
  await using _ = { [Symbol.asyncDispose]: () => second.close() }
  const cancelled = await runningOf(first, second, 1)
  await second.call('runs.cancel', { ids: [cancelled.id] })
  await eventually(() => endsOf(second, cancelled.id).length > 0, 'the report of the cancelled run')
  // The one that was asked to cancel it knows; the other has to be told.
  expect(endsOf(second, cancelled.id)).toEqual(['cancelled'])
  expect(endsOf(first, cancelled.id)[0]).toBe('cancelled elsewhere')
  const done = await runningOf(first, second, 2)
  done.letGo()
  await runEnded(first, done.id)
  await eventually(() => endsOf(second, done.id).length > 0, 'the report of the finished run')
  expect(new Set(endsOf(first, done.id))).toEqual(new Set(['done']))
  expect(endsOf(second, done.id)).toEqual(['done elsewhere'])
})
