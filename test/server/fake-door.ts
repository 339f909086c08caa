import type { ApiEvent, CallApi, Listener } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Door } from '#server/door.ts'

export interface FakeDoor extends Door {
  /** Every call that was received, in order. */
  asked: { name: string; input: unknown }[]
  answers: Record<string, (input: unknown, signal?: AbortSignal) => unknown>
  tell(event: ApiEvent): void
}

/** A minimal workbench: the tests are about the doors, not what is behind them. */
export function makeFakeDoor(answers: FakeDoor['answers'] = {}): FakeDoor {
  const listeners = new Set<Listener>()
  const asked: FakeDoor['asked'] = []
  const all = {
    'workbench.get': () => ({ version: '0', protocol: 1, platform: 'test', models: 0, runs: 0, sampleModel: null }),
    ...answers,
  }
  return {
    asked,
    answers: all,
    call: (async (name: string, input: unknown, signal?: AbortSignal) => {
      asked.push({ name, input })
      const answer = (all as FakeDoor['answers'])[name]
      if (!answer) throw new EspalierError('not-found', `No answer for ${name}.`)
      return answer(input, signal)
    }) as CallApi,
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    tell(event) {
      for (const listener of listeners) listener(event)
    },
  }
}
