import { expect, test } from 'vitest'
import { AwakeTimeout } from '#jobs/compute/compute-process.ts'
import { eventually } from '../../eventually.ts'

test('a timeout begins again after this process was stopped, and can be cleared', async () => {
  let calls = 0
  const stopped = 400
  const kept = new AwakeTimeout(() => calls++, 100, stopped)
  const cleared = new AwakeTimeout(() => (calls += 10), 100, stopped)
  // Blocks this thread, so that timers are late as after a sleep.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, stopped + 200)
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(calls).toBe(0)
  cleared.clear()
  await eventually(() => calls > 0, 'the call')
  expect(calls).toBe(1)
  kept.clear()
})
