import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { connect } from '#db/database.ts'
import { eventually } from '../../eventually.ts'
import { oneRun, openedWorkbench } from '../opened.ts'

test('lists learn what another process changed, and nothing of its heartbeats and progress', async () => {
  await using first = await openedWorkbench()
  const told = () => first.events.filter(({ name }) => name === 'history changed').length
  await first.call('queue.pause', {})
  const { id } = await oneRun(first)
  const db = connect(join(first.folder, 'history.sqlite'))
  /** Writes as another process, and waits until this one has looked: it reports the queue after each change of others. */
  const write = async (sql: string) => {
    const { length } = first.events
    db.exec(sql)
    await eventually(() => first.events.slice(length).some(({ name }) => name === 'queue changed'), 'a look at the history')
  }
  await write(`UPDATE models SET name = 'first'`)
  await eventually(() => told() > 0, 'the first change')
  // What this process did itself is reported within 50 ms.
  await sleep(300)
  const before = told()
  await write('UPDATE owners SET heartbeat_at = heartbeat_at + 1')
  await write(`UPDATE runs SET progress = '{"phase":"stage 1","done":1,"total":2,"unit":"windows"}' WHERE id = '${id}'`)
  expect(told()).toBe(before)
  let count = before
  for (const change of [
    `UPDATE runs SET name = 'renamed' WHERE id = '${id}'`,
    `UPDATE models SET name = 'renamed'`,
    `INSERT INTO experiments(id, name, created_at) VALUES ('exp-other', 'other', 1)`,
    `UPDATE runs SET status = 'cancelled', queue_position = NULL WHERE id = '${id}'`,
  ]) {
    await write(change)
    expect(told(), change).toBe(++count)
  }
  db.close()
})
