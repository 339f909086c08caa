import { EspalierError } from '#contract/errors.ts'
import { clusterShell, sshOptions } from './cluster-shell.ts'

/** Copies files to a host and back. Each throws `unreachable` with what rsync said when it did not come to its end. */
export interface Copying {
  /** Copies a file or folder into a folder there, but for what the patterns name. Times are kept, so that it is sent once. */
  there(path: string, folder: string, without?: readonly string[]): Promise<void>
  /** Copies files and folders that are named below a folder to the same names below another. What is missing is left out. */
  listedThere(names: readonly string[], from: string, to: string): Promise<void>
  listedHere(names: readonly string[], from: string, to: string): Promise<void>
}

/** Seconds without a byte after which a connection is given up. */
const stallSeconds = 60

/** By the system's rsync over the system's ssh. */
export function copying(host: string, signal: AbortSignal): Copying {
  // Models may take long; what stalls is ended by rsync itself.
  const shell = clusterShell('', signal, Number.POSITIVE_INFINITY)
  const rsync = async (words: readonly string[], input = '') => {
    const usual = [
      '--recursive',
      '--times',
      `--timeout=${stallSeconds}`,
      '--exclude=*.unfinished',
      '--rsh',
      ['ssh', ...sshOptions].join(' '),
    ]
    const { code, errors } = await shell.run(['rsync', ...usual, ...words], input)
    if (code !== 0)
      throw new EspalierError('unreachable', `rsync with ${host}: ${errors.trim().slice(0, 500) || `ended with code ${code}`}`)
  }
  const listed = (names: readonly string[], from: string, to: string) =>
    names.length === 0 ? Promise.resolve() : rsync(['--ignore-missing-args', '--files-from=-', '--', from, to], `${names.join('\n')}\n`)
  return {
    there: (path, folder, without = []) =>
      rsync(['--copy-links', ...without.map((pattern) => `--exclude=${pattern}`), '--', path, `${host}:${folder}/`]),
    listedThere: (names, from, to) => listed(names, `${from}/`, `${host}:${to}/`),
    listedHere: (names, from, to) => listed(names, `${host}:${from}/`, `${to}/`),
  }
}
