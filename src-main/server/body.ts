import type { IncomingMessage } from 'node:http'
import { Refusal } from './guard/refusal.ts'

const mebibyte = 1024 * 1024
/** Largest body of most calls, in bytes. The largest legitimate one is a replayed run. */
export const bodyLimit = 4 * mebibyte
/** Largest body of an imported experiment or an uploaded text, in bytes. */
export const importLimit = 64 * mebibyte
const maximumDepth = 64
const forbiddenKeys = new Set(['__proto__', 'prototype', 'constructor'])

/** Checks the headers before any byte of the body is read. */
export function checkBodyHeaders(request: IncomingMessage, limit: number): void {
  const type = request.headers['content-type'] ?? ''
  if (!/^application\/json *(; *charset="?utf-8"?)?$/i.test(type))
    throw new Refusal(415, 'Send JSON, with "Content-Type: application/json".')
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') throw new Refusal(415, `Send the body uncompressed, without "Content-Encoding: ${encoding}".`)
  if (Number(request.headers['content-length'] ?? 0) > limit) throw tooLarge(limit)
}

/** Reads and parses the body. An empty body is an empty object. */
export async function readJson(request: IncomingMessage, limit: number): Promise<unknown> {
  const text = decode(await readBytes(request, limit))
  if (text.trim() === '') return {}
  const value = parse(text)
  checkValues(value, limit > bodyLimit ? Number.POSITIVE_INFINITY : mostValues)
  return value
}

async function readBytes(request: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  // The stream must survive the loop, because a refusal is sent over its socket.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > limit) throw tooLarge(limit)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function tooLarge(limit: number): Refusal {
  return new Refusal(413, `The body is larger than ${limit / mebibyte} MiB. Send the path of a large file instead of its content.`)
}

function decode(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new Refusal(400, 'The body is not UTF-8.')
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (thrown) {
    throw new Refusal(400, `The body is not JSON: ${(thrown as Error).message.slice(0, 200)}`)
  }
}

/** The most values in a body of `bodyLimit`. Checking a wrong one takes microseconds, so a million of them would stop the server. */
const mostValues = 50_000
/** Lists of whole numbers under these keys may be longer: token ids, which are checked as a whole, and what a plan keeps. */
const longLists: ReadonlySet<string> = new Set(['prompt', 'continueFrom', 'kept'])

/** Refuses forbidden keys, deep nesting and too many values. Walks level by level, so that deep nesting cannot overflow the call stack. */
function checkValues(root: unknown, most: number): void {
  let level = [root].filter(isObject)
  let count = 0
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maximumDepth) throw new Refusal(400, `The body is nested deeper than ${maximumDepth} levels.`)
    const next: object[] = []
    for (const value of level) {
      const entries = Array.isArray(value) ? value : Object.values(value)
      count += entries.length
      for (const [key, entry] of Array.isArray(value) ? [] : Object.entries(value)) {
        if (forbiddenKeys.has(key)) throw new Refusal(400, `The key "${key}" is not allowed in a body.`)
        if (longLists.has(key)) count -= wholeNumbersIn(entry)
      }
      for (const entry of entries) if (isObject(entry)) next.push(entry)
    }
    level = next
  }
  if (count > most) throw new Refusal(413, `The body has ${count} values, and the most is ${most}. Send fewer.`)
}

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null

/** How many entries lists of whole numbers have: of one list, or of a list of lists. */
function wholeNumbersIn(value: unknown): number {
  if (!Array.isArray(value)) return 0
  if (value.length > 0 && value.every(Array.isArray))
    return value.length < 1000 ? value.reduce((sum, list) => sum + wholeNumbersIn(list), 0) : 0
  return value.every((entry) => Number.isSafeInteger(entry) && entry >= 0) ? value.length : 0
}
