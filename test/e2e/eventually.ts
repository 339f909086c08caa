import { expect } from 'vitest'
import { eventually as wait } from '../eventually.ts'

/** Waits as the scripts do, and counts as a check of the test. */
export async function eventually<Value>(
  ask: () => Promise<Value> | Value,
  holds: (value: Value) => boolean,
  milliseconds: number,
): Promise<Value> {
  // Each question goes through a browser or a server.
  const value = await wait(ask, holds, milliseconds, 250)
  expect(holds(value)).toBe(true)
  return value
}
