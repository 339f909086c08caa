import { EspalierError } from '#contract/errors.ts'
import type { FromCompute } from '#contract/machine/compute-messages.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { TensorFile } from '#contract/pruning/plan.ts'

/** A finished step: its JSON, and the file of its tensors where it has some. */
export interface FoundStep {
  readonly value: unknown
  readonly tensors?: TensorFile
  /** Whether the run that asks did it. */
  readonly own?: boolean
}

/** What the main side does for a job while it goes on. What a job asks is answered before it goes on. */
export interface JobSide {
  /** Seconds after which the job is given up and its process ended. */
  deadlineSeconds?: number
  onEvent?(event: unknown): void
  onOutput?(chunk: string): void
  getStep?(name: string, signal: AbortSignal): FoundStep | undefined | Promise<FoundStep | undefined>
  /** `tensors` is a file that the job has written into the tensor folder. */
  putStep?(name: string, value: unknown, tensors?: TensorFile): void
  /** Gives the path of a file of the hub; stops when the job is cancelled. */
  fetchFile?(file: HubFile, signal: AbortSignal): Promise<string>
}

export type Question = Extract<FromCompute, { type: 'get step' | 'put step' | 'fetch file' }>
export type Answer =
  | { type: 'step found'; found: boolean; value?: unknown; tensors?: TensorFile; own?: boolean }
  | { type: 'step written' }
  | { type: 'file fetched'; path: string }

export async function answerQuestion(question: Question, side: JobSide, signal: AbortSignal): Promise<Answer> {
  if (question.type === 'get step') {
    const step = await side.getStep?.(question.name, signal)
    return step ? { type: 'step found', found: true, ...step } : { type: 'step found', found: false }
  }
  if (question.type === 'put step') {
    side.putStep?.(question.name, question.value, question.tensors)
    return { type: 'step written' }
  }
  if (!side.fetchFile) throw new EspalierError('unreachable', 'This job cannot download anything.')
  return { type: 'file fetched', path: await side.fetchFile(question.file, signal) }
}
