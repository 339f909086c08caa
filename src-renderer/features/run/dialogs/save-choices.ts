import { dirname, type FormatOutline, modelfileName, type SavedFile } from '#contract/exports/exports.ts'
import type { Transfer } from '#contract/models/models.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { formatBytes, formatSeconds } from '../../../lib/format.ts'

/** Identifies a way to save: a format and, for GGUF, a type. */
export const choiceKey = ({ format, type }: Pick<FormatOutline, 'format' | 'type'>): string =>
  type === null ? format : `${format} ${type}`

/** How many ways to save are shown first. */
const shownFirst = 5
/** The ways that most users want, in this order. */
const usualKeys = ['exact', 'stock', 'gguf Q8_0', 'gguf Q4_K_M', 'gguf F16', 'gguf Q6_K', 'gguf Q5_K_M']

/** The way to save that the run's own numbers are about. Null if the run was measured as computed and sized for nothing. */
export function measuredKey({ weights, amount }: Pick<RunRequest, 'weights' | 'amount'>): string | null {
  if ('bytes' in amount) return amount.format === 'gguf' ? `gguf ${weights ?? amount.type ?? 'F16'}` : amount.format
  if ('tokensPerSecond' in amount || 'milliseconds' in amount) return `gguf ${weights ?? 'F16'}`
  return weights === undefined ? null : `gguf ${weights}`
}

/** The outlines to show first, the measured one at the top, and all others in their order. Those that cannot hold the model come last. */
export function arrangeOutlines(
  outlines: readonly FormatOutline[],
  measured: string | null,
): { first: FormatOutline[]; more: FormatOutline[] } {
  const possible = outlines.filter(({ problem }) => problem === null)
  const rankOf = (outline: FormatOutline): number => {
    const key = choiceKey(outline)
    if (key === measured) return -1
    const usual = usualKeys.indexOf(key)
    return usual < 0 ? usualKeys.length : usual
  }
  const first = [...possible].sort((one, other) => rankOf(one) - rankOf(other)).slice(0, shownFirst)
  const rest = outlines.filter((outline) => !first.includes(outline))
  return { first, more: [...rest.filter(({ problem }) => problem === null), ...rest.filter(({ problem }) => problem !== null)] }
}

/** The share of a save that is done: of its bytes, and then of the files to reopen. Null while that is unknown, also for a single file. */
export function savingShare({ opened, doneBytes, totalBytes }: Pick<Transfer, 'opened' | 'doneBytes' | 'totalBytes'>): number | null {
  if (opened) return opened.total > 1 ? opened.done / opened.total : null
  return totalBytes ? doneBytes / totalBytes : null
}

/** Says how far a save is. `wait` says why it waits for memory; null if it does not. */
export function savingText(transfer: Transfer, wait: string | null): string {
  const { status, problem, opened, doneBytes, totalBytes, bytesPerSecond, secondsLeft } = transfer
  if (status === 'failed') return problem ?? 'Saving failed.'
  if (status !== 'running') return status === 'done' ? 'Saved, reopened and compared.' : `Saving was ${status}.`
  if (opened)
    return opened.total > 1
      ? `Reopening and comparing: file ${Math.min(opened.done + 1, opened.total)} of ${opened.total}`
      : 'Reopening and comparing …'
  if (doneBytes === 0) return wait ?? 'Preparing …'
  return [
    `${formatBytes(doneBytes)} of ${totalBytes === null ? '…' : formatBytes(totalBytes)}`,
    ...(bytesPerSecond ? [`${formatBytes(bytesPerSecond)}/s`] : []),
    ...(secondsLeft === null ? [] : [`${formatSeconds(secondsLeft)} left`]),
  ].join(' · ')
}

/** A command or instruction that opens a saved file in another program. */
interface OpenLine {
  readonly program: string
  readonly line: string
}

/** How llama.cpp, Ollama and LM Studio open a saved GGUF file. `together` is how many types were saved in its folder. */
export function openLines({ path }: Pick<SavedFile, 'path'>, type: string | null, together: number): OpenLine[] {
  const stem = (path.split(/[\\/]/).at(-1) ?? path).replace(/(-\d{5}-of-\d{5})?\.gguf$/, '')
  const modelfile = `${dirname(path)}${path.includes('\\') ? '\\' : '/'}${modelfileName(type ?? '', together)}`
  return [
    { program: 'llama.cpp', line: `llama-cli -m ${quoted(path)}` },
    { program: 'Ollama', line: `ollama create ${stem.toLowerCase()} -f ${quoted(modelfile)}` },
    // Without --copy, the file would leave the library.
    { program: 'LM Studio', line: `lms import --copy ${quoted(path)}` },
  ]
}

/** A path as one word of a shell. */
function quoted(path: string): string {
  if (/^[\w./:\\@+-]+$/.test(path)) return path
  return path.includes('\\') ? `"${path}"` : `'${path.replaceAll("'", "'\\''")}'`
}

/** Bytes of weights, and of keys and values in half precision, for contexts of some lengths: a usual one, and all of the model's. */
export function memoryByContext(
  bytes: number,
  keyValueBytes: number,
  contextLength: number,
): { tokens: number; bytes: number; keyValueBytes: number }[] {
  const lengths = [...new Set([Math.min(4096, contextLength), contextLength])]
  return lengths.map((tokens) => {
    const held = (keyValueBytes * tokens) / 1000
    return { tokens, bytes: bytes + held, keyValueBytes: held }
  })
}
