import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import { readSmallFile } from '#runtime/small-file.ts'

const shortest = 32

/** Returns 256 random bits, in characters that are valid in a header, a WebSocket protocol name and a URL fragment. */
export function makeToken(): string {
  return randomBytes(32).toString('base64url')
}

/** Reads the token from the first line of a file. Throws if others can read the file, or if the token is too short. */
export async function readTokenFile(file: string): Promise<string> {
  const status = await stat(file).catch(() => {
    throw new EspalierError(
      'not-found',
      `The token file ${file} does not exist. Make it with: openssl rand -hex 32 > ${file} && chmod 600 ${file}`,
    )
  })
  if (process.platform !== 'win32' && (status.mode & 0o077) !== 0) {
    throw new EspalierError('usage', `Others on this machine can read the token file ${file}. Close it first: chmod 600 ${file}`)
  }
  const token = (await readSmallFile(file)).split('\n', 1)[0]?.trim() ?? ''
  if (!/^[\w~.-]+$/.test(token) || token.length < shortest) {
    throw new EspalierError(
      'usage',
      `The token in ${file} has ${token.length} usable characters. It needs at least ${shortest}, of letters, digits and "_", "-", ".", "~".`,
    )
  }
  return token
}

/** Compares in constant time. */
export function isSameToken(given: string, token: string): boolean {
  return timingSafeEqual(digest(given), digest(token))
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
