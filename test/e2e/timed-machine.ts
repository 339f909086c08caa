import { mkdir } from 'node:fs/promises'
import type { SelfTest } from '#contract/machine/engine-state.ts'
import { type History, openHistory } from '#db/history.ts'

const timing: SelfTest = {
  backend: 'tensorflow-cpu',
  device: 'a machine of two cores',
  matches: true,
  largestError: 4e-7,
  worst: 'a product',
  gigaflopsPerSecond: 43,
  rates: [
    {
      hidden: 128,
      attention: 87,
      mlp: 20,
      head: 14,
      double: 6,
      vectors: 1.4,
      solved: 30,
      call: 0.005,
      stored: 18,
      thirds: 1,
      split: 1,
      bfloat16: 1,
      auto: 1,
      decoded: 2.3,
    },
    {
      hidden: 512,
      attention: 15,
      mlp: 37,
      head: 18,
      double: 50,
      vectors: 10,
      solved: 30,
      call: 0.0005,
      stored: 18,
      thirds: 1,
      split: 1,
      bfloat16: 1.3,
      auto: 1.3,
      decoded: 2.4,
    },
  ],
  seconds: 7,
}

export function keepTiming({ settings }: History): void {
  settings.set('last self-test', { ...timing, at: Date.now() })
}

/**
 * Fills a data folder as on a machine that was timed before. Timing takes 7 s of the processor; `main-path` begins on a machine
 * that was not.
 */
export async function timedMachine(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  const history = openHistory(folder)
  keepTiming(history)
  history.close()
}
