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
  return checked(await readSmallFile(file), file)
}

/** The most that is read of standard input, in characters. */
const mostRead = 4096

/** Reads the token from the first line of a stream, such as standard input. Throws if it is too short. */
export async function readTokenFrom(stream: NodeJS.ReadableStream): Promise<string> {
  let text = ''
  for await (const chunk of stream) {
    text += String(chunk)
    if (text.includes('\n') || text.length > mostRead) break
  }
  return checked(text, 'standard input')
}

/** The first line of a text. Throws unless it is a token. */
function checked(text: string, place: string): string {
  const token = text.split('\n', 1)[0]?.trim() ?? ''
  if (/^[\w~.-]+$/.test(token) && token.length >= shortest) return token
  throw new EspalierError(
    'usage',
    `The token in ${place} has ${token.length} usable characters. It needs at least ${shortest}, of letters, digits and "_", "-", ".", "~".`,
  )
}

/** Compares in constant time. */
export function isSameToken(given: string, token: string): boolean {
  return timingSafeEqual(digest(given), digest(token))
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
