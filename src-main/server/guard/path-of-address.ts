import { realpath } from 'node:fs/promises'
import { isAbsolute, join, relative, sep } from 'node:path'
import { Refusal } from './refusal.ts'

/**
 * Returns the real path of the percent-encoded `name` inside `folder`. Refuses malformed names (400), missing files (404), and paths that
 * leave the folder by dots or through a link (403).
 */
export async function confinedPath(folder: string, name: string): Promise<string> {
  const segments = decodeName(name)
    .split('/')
    .filter((segment) => segment !== '')
  if (segments.some((segment) => segment === '..' || segment === '.')) throw outside()
  const root = await realpath(folder).catch(notThere)
  const target = await realpath(join(root, ...segments)).catch(notThere)
  const path = relative(root, target)
  if (path === '..' || path.startsWith(`..${sep}`) || isAbsolute(path)) throw outside()
  return target
}

function decodeName(name: string): string {
  const decoded = decodeOnce(name)
  // Backslashes, drive letters and streams have a meaning on Windows. A percent sign after decoding has no honest use.
  if (/[\0\\:%]/.test(decoded)) throw new Refusal(400, 'The address contains a character that is not allowed.')
  return decoded
}

function decodeOnce(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    throw new Refusal(400, 'The address is malformed.')
  }
}

function outside(): Refusal {
  return new Refusal(403, 'The address is outside the folder that is served.')
}

function notThere(): never {
  throw new Refusal(404, 'There is no such file.')
}
