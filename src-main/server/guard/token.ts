import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { stat } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { EspalierError } from '#contract/errors.ts'
import { readSmallFile } from '#runtime/small-file.ts'
import { Refusal } from './refusal.ts'

const shortest = 32

export const eventProtocol = 'espalier'
const tokenProtocol = 'espalier.token.'

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
function isSameToken(given: string, token: string): boolean {
  return timingSafeEqual(digest(given), digest(token))
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/** Refuses a request without this server's token, in a header or, for a WebSocket, in a protocol name. */
export function checkToken(request: IncomingMessage, token: string): void {
  const given = bearerToken(request) ?? socketToken(request)
  if (given === undefined)
    throw new Refusal(401, 'The token is missing. Send it as "Authorization: Bearer …".', { 'www-authenticate': 'Bearer' })
  if (!isSameToken(given, token)) {
    throw new Refusal(
      401,
      'This is not the token of this server, which may have been started again. Open the address shown in its terminal.',
      {
        'www-authenticate': 'Bearer',
      },
    )
  }
}

function bearerToken(request: IncomingMessage): string | undefined {
  return request.headers.authorization?.match(/^bearer ([\w~.-]+)$/i)?.[1]
}

/** A page cannot set headers on a WebSocket, so it sends the token as a second protocol name. Access logs do not record it. */
function socketToken(request: IncomingMessage): string | undefined {
  if (request.headers.upgrade?.toLowerCase() !== 'websocket') return undefined
  const protocols = request.headers['sec-websocket-protocol']?.split(',').map((name) => name.trim()) ?? []
  return protocols.find((name) => name.startsWith(tokenProtocol))?.slice(tokenProtocol.length)
}

/** The protocols that a client offers when it opens the event stream. */
export function eventProtocols(token: string): string[] {
  return [eventProtocol, tokenProtocol + token]
}
