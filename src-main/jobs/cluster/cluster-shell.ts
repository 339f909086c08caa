import { execFile } from 'node:child_process'
import { EspalierError } from '#contract/errors.ts'

export type Command = readonly [string, ...string[]]

export interface ShellAnswer {
  code: number
  output: string
  errors: string
}

/** The default time limit of a command, in milliseconds. A busy or unavailable scheduler takes long to fail. */
const patienceMilliseconds = 40_000
const mostOutput = 64_000_000

/** Runs commands where Slurm's commands are installed: on this machine, or on a host from the user's ssh configuration. */
export interface ClusterShell {
  run(command: Command, input?: string): Promise<ShellAnswer>
  /** The host; empty for this machine. */
  host: string
}

/**
 * @param host as in the user's ssh configuration; empty for this machine
 * @param milliseconds time limit of a command
 */
export function clusterShell(host: string, signal?: AbortSignal, milliseconds = patienceMilliseconds): ClusterShell {
  return { host, run: (command, input = '') => execute(host === '' ? command : overSsh(host, command), input, milliseconds, signal) }
}

/** Wraps a command in the system's ssh. Login must not prompt. The login shell on the host receives the command as one string. */
export function overSsh(host: string, command: Command): Command {
  return ['ssh', ...sshOptions, '--', host, command.map(quoteWord).join(' ')]
}

export const sshOptions = ['-T', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=15'] as const

/** Quotes a word for a POSIX shell. This is the only place where anything is quoted. */
export function quoteWord(word: string): string {
  if (word.includes('\0'))
    throw new EspalierError('invalid', `${JSON.stringify(word)} contains a NUL character, which commands do not accept.`)
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

function execute([program, ...words]: Command, input: string, milliseconds: number, signal: AbortSignal | undefined): Promise<ShellAnswer> {
  const timeout = Number.isFinite(milliseconds) ? milliseconds : 0
  return new Promise((resolve) => {
    const child = execFile(
      program,
      words,
      { timeout, signal, killSignal: 'SIGKILL', maxBuffer: mostOutput, windowsHide: true },
      (thrown, output, errors) => {
        if (!thrown) return resolve({ code: 0, output, errors })
        const late = child.killed ? `${program} did not answer within ${timeout / 1000} s. ` : ''
        const code = typeof thrown.code === 'number' ? thrown.code : 127
        resolve({
          code,
          output,
          errors: late + (errors.trim() || (thrown.code === 'ENOENT' ? `${program} is not installed.` : thrown.message)),
        })
      },
    )
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}
