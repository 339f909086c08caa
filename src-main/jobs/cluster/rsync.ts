import { EspalierError } from '#contract/errors.ts'
import { clusterShell, sshOptions } from './cluster-shell.ts'

/** Copies files to and from a host. Each call throws `unreachable` with rsync's message if it fails. */
export interface Copying {
  /** Copies a file or folder into a remote folder, except what the patterns match. Keeps times, so that nothing is sent twice. */
  send(path: string, folder: string, without?: readonly string[]): Promise<void>
  /** Copies the named files and folders from a local base folder to a remote one. Missing ones are skipped. */
  sendListed(names: readonly string[], from: string, to: string): Promise<void>
  /** Does the same from a remote base folder to a local one. */
  fetchListed(names: readonly string[], from: string, to: string): Promise<void>
}

/** A connection without traffic for this many seconds is closed. */
const stallSeconds = 60

/** Copies with the system's rsync over the system's ssh. */
export function copying(host: string, signal: AbortSignal): Copying {
  // Models may take long, so there is no time limit; rsync ends stalled transfers itself.
  const shell = clusterShell('', signal, Number.POSITIVE_INFINITY)
  const rsync = async (words: readonly string[], input = '') => {
    const options = [
      '--recursive',
      '--times',
      `--timeout=${stallSeconds}`,
      '--exclude=*.unfinished',
      '--rsh',
      ['ssh', ...sshOptions].join(' '),
    ]
    const { code, errors } = await shell.run(['rsync', ...options, ...words], input)
    if (code !== 0)
      throw new EspalierError('unreachable', `rsync with ${host}: ${errors.trim().slice(0, 500) || `ended with code ${code}`}`)
  }
  const listed = (names: readonly string[], from: string, to: string) =>
    names.length === 0 ? Promise.resolve() : rsync(['--ignore-missing-args', '--files-from=-', '--', from, to], `${names.join('\n')}\n`)
  return {
    send: (path, folder, without = []) =>
      rsync(['--copy-links', ...without.map((pattern) => `--exclude=${pattern}`), '--', path, `${host}:${folder}/`]),
    sendListed: (names, from, to) => listed(names, `${from}/`, `${host}:${to}/`),
    fetchListed: (names, from, to) => listed(names, `${host}:${from}/`, `${to}/`),
  }
}
