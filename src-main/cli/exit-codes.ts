import type { ErrorCode } from '#contract/errors.ts'

/** What a command that failed ends with, by its error's code. Any other code ends it with 1. */
const exitCodes: Partial<Record<ErrorCode, number>> = { usage: 2, cancelled: 130 }

/** How a command ended, for its help. */
export const exitCodesHelp = 'Exit codes: 0 done, 1 failed with one clear error, 2 wrong usage, 130 interrupted.'

/** The one table of exit codes, for every command. */
export function exitCodeOf(code: ErrorCode): number {
  return exitCodes[code] ?? 1
}
