import { type ErrorCode, EspalierError } from '#contract/errors.ts'
import { limitMark } from '#contract/machine/compute-messages.ts'

interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  /** The end of its output. */
  output: string
  /** The last resident size it reported. */
  memoryBytes: number
  totalBytes: number
}

const allocationFailure =
  /out of memory|\bOOM\b|bad_alloc|cannot allocate memory|failed to allocate|heap limit|RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY|ErrorOutOf\w*Memory|Array buffer allocation failed|Invalid typed array length/i

/** What ggml prints when one of its checks fails, after which it ends the process. The match omits the folder of the source file. */
const failedCheck = /([\w.-]+:\d+: GGML_ASSERT\(.*\) failed)/

/** What Vulkan's C++ interface throws when the GPU or its driver has disappeared. */
const lostDevice = /DeviceLost/

/** A process that used more than this share of memory and was killed probably ran out of it. */
const suspiciousShare = 0.6

/** Explains to the user why a compute process ended. */
export function explainExit({ code, signal, output, memoryBytes, totalBytes }: Exit): EspalierError {
  const limit = signal === 'SIGKILL' ? output.split('\n').findLast((line) => line.startsWith(limitMark)) : undefined
  if (limit !== undefined) return new EspalierError('invalid', JSON.parse(limit.slice(limitMark.length)) as string, { limit: true })
  const ended = signal === null ? `with code ${code}` : `by ${signal}`
  const failure = { ofProcess: true, code, signal, output: output.slice(-2000) }
  // Checked before words about memory, which an earlier job may have printed. A killed process printed nothing about its end.
  const described = signal === 'SIGKILL' ? undefined : describeEnd(output)
  if (described) return new EspalierError('internal', described, failure)
  const killedWhenFull = signal === 'SIGKILL' && memoryBytes > suspiciousShare * totalBytes
  if (killedWhenFull || allocationFailure.test(output)) {
    return new EspalierError(
      'out-of-memory',
      `The machine ran out of memory: the compute process ended ${ended} while it held ${gigabytes(memoryBytes)}.`,
      { memoryBytes },
    )
  }
  return new EspalierError('internal', `The compute process ended unexpectedly, ${ended}.`, { ...failure, unexplained: true })
}

/** After a failed allocation, a check fails at most this many lines later. */
const linesBetween = 3

/** Explains a lost GPU or a failed check of ggml. Returns undefined for other ends, and if an allocation failed just before. */
function describeEnd(output: string): string | undefined {
  if (lostDevice.test(output)) return 'The GPU was lost: it was removed, or its driver was restarted. Run again, or choose another backend.'
  const lines = output.split('\n')
  const index = lines.findLastIndex((line) => failedCheck.test(line))
  const check = failedCheck.exec(lines[index] ?? '')?.[1]
  const noMemory = allocationFailure.test(lines.slice(Math.max(0, index - linesBetween), Math.max(0, index)).join('\n'))
  if (noMemory) return undefined
  return check && `ggml ended the compute process because one of its checks failed (${check}). Choose another backend if it happens again.`
}

/**
 * Explains a timeout. It names the machine's load if known (Windows reports 0) and does not guess a cause.
 * @param load processes that wanted a processor in the last minute
 */
export function explainDeadline(seconds: number, load: number, processors: number): EspalierError {
  const took = `This took longer than ${seconds} s and was stopped.`
  const busy = `The machine is busy: ${load.toFixed(1)} processes are competing for ${processors} processors. Try again when it is less busy.`
  return new EspalierError('internal', `${took} ${load > processors ? busy : 'Try again.'}`)
}

/** Whether the compute process caused the error, not the run. */
export function isOfProcess({ details }: { details?: Record<string, unknown> | undefined }): boolean {
  return details?.ofProcess === true
}

/** Whether nothing is known about why the process ended, so that the run may well succeed when it is resumed. */
export function isUnexplained({ details }: { details?: Record<string, unknown> | undefined }): boolean {
  return details?.unexplained === true
}

/** Whether the process ended itself because a file exceeded the read limits. */
export function isLimit({ details }: { details?: Record<string, unknown> | undefined }): boolean {
  return details?.limit === true
}

/** Returns the error of a job. A failed allocation becomes `out-of-memory`. */
export function explainError(error: { code: ErrorCode; message: string; details?: Record<string, unknown> | undefined }): EspalierError {
  const code = error.code === 'internal' && allocationFailure.test(error.message) ? 'out-of-memory' : error.code
  return new EspalierError(code, error.message, error.details)
}

/** Returns advice for a problem; null if its message already says what to do. */
export function adviceFor(error: EspalierError, limitBytes: number | undefined): string | null {
  if (error.code === 'out-of-memory') {
    const held = typeof error.details?.memoryBytes === 'number' ? error.details.memoryBytes : undefined
    const suggestion = limitBytes !== undefined ? limitBytes / 2 : held !== undefined && held > 0 ? held / 2 : undefined
    return `Set the memory limit${suggestion === undefined ? '' : ` to ${gigabytes(suggestion)} or less`}: weights that do not fit are then streamed from disk block by block. Fewer or shorter calibration windows help too. Resuming continues from the last finished step.`
  }
  if (error.code === 'disk') return 'Resume when this is fixed: finished steps are kept.'
  if (error.code === 'unreachable') return 'Check the connection, or copy the data to this machine and use its path. Then resume.'
  if (error.code === 'internal')
    return 'Resume to continue from the last finished step. If it happens again, see the log and the diagnostics.'
  return null
}

export function gigabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(1, Math.round(bytes / 1e6))} MB`
}
