import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { mostShown } from '#contract/runs/queue.ts'
import { openHistory } from '#db/history.ts'
import { fillHistory } from '../../bench/fill-history.ts'
import { openedWorkbench } from '../opened.ts'

test('a queue of a thousand runs is counted whole and listed in part', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'espalier-test-'))
  const history = openHistory(folder)
  fillHistory(history, 1010, 1)
  history.queue.enqueue(Array.from({ length: 1000 }, (_, at) => at + 1))
  history.settings.set('queue paused', true)
  const [first] = history.queue.waiting()
  // Three of these were made before all that wait, one ended just now.
  for (let number = 1001; number <= 1010; number++)
    history.runs.patch(number, { status: 'done', created_at: number > 1007 ? -1 : 1, ended_at: number === 1010 ? Date.now() : 1 })
  history.close()
  await using workbench = await openedWorkbench({ folder })
  const queue = await workbench.call('queue.get', {})
  expect(queue).toMatchObject({ waiting: 1000, ended: 7, endedLastHour: 1 })
  expect(queue.runs.map(({ id }) => id)).toHaveLength(mostShown)
  expect(queue.runs[0]?.id).toBe(first?.id)
})
