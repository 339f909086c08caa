import { expect, test } from 'vitest'
import { mostShown } from '#contract/runs/queue.ts'
import { openHistory } from '#db/history.ts'
import { fillHistory } from '../../fixtures/fill-history.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'
import { openedWorkbench } from '../opened.ts'

test('a queue of a thousand runs is counted whole and listed in part', async () => {
  const folder = scratchOfTest('test')
  const history = openHistory(folder)
  fillHistory(history, 1010, 1)
  // Five runs were created before all waiting ones and five after them; one of these has just ended.
  history.queue.enqueue(Array.from({ length: 1000 }, (_, at) => at + 6))
  history.settings.set('queue paused', true)
  history.runs.patch(1010, { ended_at: Date.now() })
  const [first] = history.queue.waiting()
  history.close()
  await using workbench = await openedWorkbench({ folder })
  const queue = await workbench.call('queue.get', {})
  expect(queue).toMatchObject({ waiting: 1000, ended: 5, endedLastHour: 1 })
  expect(queue.runs.map(({ id }) => id)).toHaveLength(mostShown)
  expect(queue.runs[0]?.id).toBe(first?.id)
})
