import { z } from 'zod'
import { id, moment } from '../identifiers.ts'
import { errorMessage } from '../machine/compute-messages.ts'
import { tensorFile } from '../pruning/plan.ts'
import { runRequest } from '../runs/run-request.ts'
import { environment } from '../runs/runs.ts'
import { progress } from '../runs/time/progress.ts'

/**
 * A run as a file, `FOLDER/runs/RUN/request.json`. Any machine that can read it can compute the run. Results are written beside it:
 * `steps/` (one file each), `tensors/`, `attempts/N/` (state, events, log) and finally `result.json`. `FOLDER/shared/` holds steps that
 * runs share.
 */
export const runFile = z.object({
  format: z.literal('espalier run request'),
  formatVersion: z.literal(1),
  run: id,
  request: runRequest,
  version: z.string(),
})

/** A finished step. `sha256` is the hash of `value` as JSON; `tensors` names a file in the neighbouring folder `tensors`. */
export const storedStep = z.object({
  name: z.string(),
  value: z.unknown(),
  tensors: tensorFile.optional(),
  sha256: z.string(),
})

/** The state that an attempt writes every one to two seconds. */
export const attemptState = z.object({
  environment: environment.omit({ version: true, backend: true }),
  /** The machine, and the job number if a scheduler started it. */
  node: z.string(),
  job: z.string().nullable(),
  startedAt: moment,
  aliveAt: moment,
  seconds: z.number().nonnegative(),
  /** Steps that this attempt finished. */
  steps: z.number().int(),
  progress: progress.nullable(),
})

/** How a run ended: with its document, or with an error. A run that was stopped has no result. */
export const runResult = z.discriminatedUnion('status', [
  z.object({ status: z.literal('done'), document: z.unknown() }),
  z.object({ status: z.literal('failed'), error: errorMessage }),
])

export type RunFile = z.infer<typeof runFile>
export type StoredStep = z.infer<typeof storedStep>
export type AttemptState = z.infer<typeof attemptState>
export type RunResult = z.infer<typeof runResult>
