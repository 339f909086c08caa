import { EspalierError } from '#contract/errors.ts'
import type { FromCompute } from '#contract/machine/compute-messages.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { TensorFile } from '#contract/pruning/plan.ts'

/** A finished step: its JSON, and its tensor file if it has one. */
export interface FoundStep {
  readonly value: unknown
  readonly tensors?: TensorFile
  /** Whether the run that asks for the step also computed it. */
  readonly own?: boolean
}

/** What the main process does for a running job. The job waits for each answer. */
export interface JobSide {
  /** After this many seconds the job fails and its process is killed. */
  deadlineSeconds?: number
  /** Cancels the job. */
  signal?: AbortSignal | undefined
  /** How long the job may take to stop before its process is killed, instead of the host's time. */
  graceMilliseconds?: number
  /** The run, transcript or transfer that the job is for, and what it is called where others wait for its memory. */
  claimant?: { readonly id: string; readonly title: string }
  onEvent?(event: unknown): void
  onOutput?(chunk: string): void
  /** Called when the job begins to wait for memory, and when that ends. */
  onMemoryWait?(waits: boolean): void
  getStep?(name: string, signal: AbortSignal): FoundStep | undefined | Promise<FoundStep | undefined>
  /** `tensors` is a file that the job has written to the tensor folder. */
  putStep?(name: string, value: unknown, tensors?: TensorFile): void | Promise<void>
  /** Returns the path of a hub file. Stops if the job is cancelled. */
  fetchFile?(file: HubFile, signal: AbortSignal): Promise<string>
}

export type Question = Extract<FromCompute, { type: 'get step' | 'put step' | 'fetch file' }>
type Answer =
  | { type: 'step found'; found: boolean; value?: unknown; tensors?: TensorFile; own?: boolean }
  | { type: 'step written' }
  | { type: 'file fetched'; path: string }

export async function answerQuestion(question: Question, side: JobSide, signal: AbortSignal): Promise<Answer> {
  if (question.type === 'get step') {
    const step = await side.getStep?.(question.name, signal)
    return step ? { type: 'step found', found: true, ...step } : { type: 'step found', found: false }
  }
  if (question.type === 'put step') {
    await side.putStep?.(question.name, question.value, question.tensors)
    return { type: 'step written' }
  }
  if (!side.fetchFile) throw new EspalierError('unreachable', 'This job cannot download anything.')
  return { type: 'file fetched', path: await side.fetchFile(question.file, signal) }
}
