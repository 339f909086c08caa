import { expect } from 'vitest'
import { eventually as wait } from '../eventually.ts'

/** Waits as the scripts do, and counts as a check of the test. */
export async function eventually<Value>(
  ask: () => Promise<Value> | Value,
  holds: (value: Value) => boolean,
  milliseconds: number,
): Promise<Value> {
  const value = await wait(ask, holds, milliseconds)
  expect(holds(value)).toBe(true)
  return value
}
