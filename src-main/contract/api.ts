import type { z } from 'zod'
import { clusterCalls } from './clusters/cluster-calls.ts'
import { comparisonCalls } from './comparison/comparison-calls.ts'
import { dataCalls } from './data/data-calls.ts'
import { experimentCalls } from './experiments/experiment-calls.ts'
import { exportCalls } from './exports/export-calls.ts'
import { judgingCalls } from './judging/judging-calls.ts'
import { machineCalls } from './machine/machine-calls.ts'
import { modelCalls } from './models/model-calls.ts'
import { playgroundCalls } from './playground/playground-calls.ts'
import { pruningCalls } from './pruning/pruning-calls.ts'
import { runCalls } from './runs/run-calls.ts'

export { type ApiEvent, type EventData, type EventName, events, type Listener } from './events.ts'

/** Every call that a screen, a script or another machine can make. Inputs and outputs are both validated. */
export const api = {
  ...machineCalls,
  ...modelCalls,
  ...dataCalls,
  ...pruningCalls,
  ...experimentCalls,
  ...runCalls,
  ...exportCalls,
  ...clusterCalls,
  ...comparisonCalls,
  ...playgroundCalls,
  ...judgingCalls,
}

type Api = typeof api
export type CallName = keyof Api
/** Input as a caller passes it; fields with defaults are optional. */
export type Input<C extends CallName> = z.input<Api[C]['input']>
/** Input as the service receives it: validated, with defaults filled in. */
export type Checked<C extends CallName> = z.output<Api[C]['input']>
export type Output<C extends CallName> = z.output<Api[C]['output']>

/** The typed client that every side uses, over any transport. Abort the signal when the answer is no longer needed. */
export type CallApi = <C extends CallName>(name: C, input: Input<C>, signal?: AbortSignal) => Promise<Output<C>>

/** Whether a string is the name of a call. Checks own keys only, so `constructor` is not one. */
export function isCallName(text: string): text is CallName {
  return Object.hasOwn(api, text)
}
