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
  checkKeys(value)
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

/** Refuses forbidden keys and deep nesting. Walks level by level, so that deep nesting cannot overflow the call stack. */
function checkKeys(root: unknown): void {
  let level = [root]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maximumDepth) throw new Refusal(400, `The body is nested deeper than ${maximumDepth} levels.`)
    level = level.flatMap(childrenOf)
  }
}

function childrenOf(value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return []
  if (Array.isArray(value)) return value
  const forbidden = Object.keys(value).find((key) => forbiddenKeys.has(key))
  if (forbidden !== undefined) throw new Refusal(400, `The key "${forbidden}" is not allowed in a body.`)
  return Object.values(value)
}
