import { realpathSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'
import { EspalierError } from '#contract/errors.ts'

/** Where files are kept by default, inside the data folder. The settings can replace `models` and `exports`. */
export interface Folders {
  data: string
  logs: string
  models: string
  exports: string
  tokenFile: string
}

/** Returns the data folder: `ESPALIER_HOME`, or else a folder where the platform keeps application data. */
export function defaultDataFolder(environment: NodeJS.ProcessEnv = process.env, platform: NodeJS.Platform = process.platform): string {
  if (environment.ESPALIER_HOME) return resolve(environment.ESPALIER_HOME)
  if (platform === 'win32') return join(environment.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), 'espalier')
  if (platform === 'darwin') return join(homedir(), 'Library', 'Application Support', 'espalier')
  return join(environment.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'espalier')
}

export function foldersOf(data: string): Folders {
  return {
    data,
    logs: join(data, 'logs'),
    models: join(data, 'models'),
    exports: join(data, 'exports'),
    tokenFile: join(data, 'hub-token'),
  }
}

/** Resolves links in a path. Throws `invalid` unless it is inside one of the allowed folders. A relative path starts at the first. */
export function confine(path: string, allowed: readonly string[]): string {
  const target = isAbsolute(path) ? resolve(path) : resolve(allowed[0] as string, path)
  const real = realOf(target)
  const inside = allowed.some((folder) => {
    const way = relative(realOf(resolve(folder)), real)
    return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way)
  })
  if (inside && !path.includes('\0')) return real
  throw new EspalierError(
    'invalid',
    `${JSON.stringify(path)} is outside the folders that Espalier may write to: ${allowed.join(', ')}. Choose a folder inside them, or change the folders in the settings.`,
  )
}

/** Resolves links in the part of a path that exists, and appends the rest. */
export function realOf(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    const parent = dirname(path)
    return parent === path ? path : join(realOf(parent), path.slice(parent.length).replace(/^[\\/]/, ''))
  }
}

/** Converts a name to a file or folder name that every system accepts. */
export function safeFileName(name: string): string {
  const plain = name
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .replace(/[^\p{L}\p{N}._-]+/gu, '-')
    .replace(/^[-.]+|[-.]+$/g, '')
    .slice(0, 80)
  return /^(con|prn|aux|nul|com\d|lpt\d)?$/i.test(plain) ? `espalier-${plain}` : plain
}
