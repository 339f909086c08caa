/** An error as it crosses processes: a code for programs, a sentence for users. */
export interface ErrorMessage {
  code: ErrorCode
  message: string
  details?: Record<string, unknown>
}

export const errorCodes = [
  'usage',
  'invalid',
  'not-found',
  'infeasible',
  'conflict',
  'cancelled',
  'out-of-memory',
  'unreachable',
  'disk',
  'internal',
] as const
export type ErrorCode = (typeof errorCodes)[number]

/** An error whose message is written for the user: what happened, the value, what is allowed, what to do. */
export class EspalierError extends Error {
  readonly code: ErrorCode
  readonly details: Record<string, unknown> | undefined

  constructor(code: ErrorCode, message: string, details?: Record<string, unknown>) {
    super(cutText(message))
    this.name = 'EspalierError'
    this.code = code
    this.details = details
  }
}

/** The length limit of a message, in characters. Longer ones quote untrusted files or requests, and are not readable. */
const longestMessage = 2000

/** Shortens text to the length limit. Its beginning and its end are kept. */
function cutText(text: string): string {
  if (text.length <= longestMessage) return text
  return `${text.slice(0, longestMessage - 300)} … (${text.length} characters) … ${text.slice(-200)}`
}

/** Messages for common system error codes. Other codes keep the system's text. */
const faults: Readonly<Record<string, (path: string) => string>> = {
  ENOSPC: (path) => `The disk is full: ${path} could not be written. Free some space and try again.`,
  EDQUOT: (path) => `Your quota on this disk is used up: ${path} could not be written. Free some space and try again.`,
  EFBIG: (path) => `${path} is too large for this disk or for your file size limit. Choose another disk.`,
  EACCES: (path) => `You do not have permission to read or write ${path}. Change its permissions, or choose another place.`,
  EPERM: (path) => `You do not have permission to change ${path}. Change its permissions, or choose another place.`,
  EROFS: (path) => `${path} is on a read-only disk. Choose another place.`,
  EEXIST: (path) => `${path} already exists. Choose another name.`,
  ENOTEMPTY: (path) => `${path} exists and is not empty. Choose another name.`,
  ENOTDIR: (path) => `Part of ${path} is a file, not a folder. Choose another place.`,
  EISDIR: (path) => `${path} is a folder, but a file is needed. Choose another name.`,
  ENAMETOOLONG: (path) => `${path} is longer than this system allows. Choose a shorter name.`,
  ENOENT: (path) => `${path} does not exist. Check the path.`,
  ELOOP: (path) => `${path} is a link that points to itself. Choose another path.`,
  EMFILE: (path) => `${path} could not be opened because too many files are open. Raise the limit (\`ulimit -n\`) and try again.`,
  EIO: (path) => `The disk reported an error at ${path}. Check the disk.`,
}

/** Explains a file system or database error in a sentence. Undefined for other errors. */
function explainFault(error: Error): ErrorMessage | undefined {
  const { code, path } = error as Error & { code?: unknown; path?: unknown }
  if (typeof code === 'string' && code.startsWith('SQLITE_')) {
    if (code === 'SQLITE_FULL')
      return { code: 'disk', message: 'The disk is full: the history could not be written. Free some space on it.' }
    if (/^SQLITE_(BUSY|LOCKED)/.test(code))
      return { code: 'disk', message: 'The history is locked: another program is writing to it. Try again when that program has finished.' }
    if (code.startsWith('SQLITE_READONLY') || code.startsWith('SQLITE_CANTOPEN'))
      return {
        code: 'disk',
        message: `The history cannot be written (${cutText(error.message)}). Change the permissions of its folder and files.`,
      }
    const text = `The history cannot be used: ${error.message}. If this happens again, its file is damaged: restore a backup.`
    return { code: 'disk', message: cutText(text) }
  }
  const explain = typeof code === 'string' && Object.hasOwn(faults, code) ? faults[code] : undefined
  return explain && { code: 'disk', message: cutText(explain(typeof path === 'string' ? path : 'A file')) }
}

/** Turns any thrown value into a message for another process or a screen. */
export function toErrorMessage(thrown: unknown): ErrorMessage {
  if (thrown instanceof EspalierError) {
    return { code: thrown.code, message: thrown.message, ...(thrown.details ? { details: thrown.details } : {}) }
  }
  if (thrown instanceof Error && thrown.name === 'AbortError') return { code: 'cancelled', message: 'Cancelled.' }
  const fault = thrown instanceof Error ? explainFault(thrown) : undefined
  return fault ?? { code: 'internal', message: cutText(thrown instanceof Error ? thrown.message : String(thrown)) }
}
