import { patience } from './patience.ts'

type Missing = false | undefined | null

/**
 * Asks until the answer is neither false nor missing, or until it is what `holds` wants. An error says what was `sought`, or the last answer.
 * `rarest` is the longest pause between two questions, in milliseconds.
 */
export async function eventually<Value>(
  ask: () => Promise<Value | Missing> | Value | Missing,
  sought: string,
  milliseconds?: number,
): Promise<Value>
export async function eventually<Value>(
  ask: () => Promise<Value> | Value,
  holds: (value: Value) => boolean,
  milliseconds?: number,
  rarest?: number,
): Promise<Value>
export async function eventually<Value>(
  ask: () => Promise<Value> | Value,
  sought: string | ((value: Value) => boolean),
  milliseconds = 20_000,
  rarest = 100,
): Promise<Value> {
  const holds = typeof sought === 'string' ? (value: Value) => Boolean(value) : sought
  const limit = milliseconds * patience
  const began = performance.now()
  for (;;) {
    const value = await ask()
    if (holds(value)) return value
    const waited = performance.now() - began
    const missing = () => (typeof sought === 'string' ? sought : `last seen was ${JSON.stringify(value)?.slice(0, 600)}`)
    if (waited > limit) throw new Error(`Not within ${limit} ms: ${missing()}`)
    // Often at first and less often later: asking costs processor time that what is waited for needs.
    await new Promise((resolve) => setTimeout(resolve, Math.min(rarest, 10 + waited / 20)))
  }
}
