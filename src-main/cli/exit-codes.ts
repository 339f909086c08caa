import type { ErrorCode } from '#contract/errors.ts'

/** Exit code of a failed command by the code of its error; 1 for any that is not listed. */
const exitCodes: Partial<Record<ErrorCode, number>> = { usage: 2, cancelled: 130 }

/** The exit codes, as the help prints them. */
export const exitCodesHelp = 'Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.'

/** The one table of exit codes, for every command. */
export function exitCodeOf(code: ErrorCode): number {
  return exitCodes[code] ?? 1
}
