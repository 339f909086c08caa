import { EspalierError } from '#contract/errors.ts'
import { describe, reasonOf } from '../checkpoint/json.ts'
import { parseJsonLines, takeText } from './json-lines.ts'
import { joinChunks, readChunks } from './text-file.ts'
import type { TextSource } from './text-source.ts'

/** Opens a `.json` file: an array of strings, objects or token ids, or JSON lines, which many data sets publish under this ending. */
export async function openJson(file: string): Promise<TextSource> {
  if ((await firstCharacter(file)) !== '[') return { kind: 'documents', documents: () => parseJsonLines(readChunks(file), file) }
  return sortOut(parseArray(await joinChunks(readChunks(file), file), file), file)
}

async function firstCharacter(file: string): Promise<string> {
  for await (const chunk of readChunks(file)) {
    const text = chunk.trimStart()
    if (text !== '') return text.slice(0, 1)
  }
  throw new EspalierError('invalid', `${file} is empty.`, { file })
}

function parseArray(text: string, file: string): unknown[] {
  try {
    return JSON.parse(text) as unknown[]
  } catch (error) {
    throw new EspalierError('invalid', `${file} is not JSON: ${reasonOf(error)}.`, { file })
  }
}

function sortOut(items: unknown[], file: string): TextSource {
  if (items.length === 0)
    throw new EspalierError('invalid', `${file} holds an empty array. It must hold documents or windows of token ids.`, { file })
  if (items.every(Array.isArray)) return { kind: 'windows', windows: items.map((ids, window) => toWindow(ids, window, file)) }
  if (items.every((item) => typeof item === 'number')) return { kind: 'ids', ids: items.map((id, i) => checkId(id, `Item ${i}`, file)) }
  const texts = items.map((item, i) => takeText(item, `Item ${i} of ${file}`))
  return { kind: 'documents', documents: () => yieldAll(texts) }
}

function toWindow(ids: unknown[], window: number, file: string): Int32Array {
  if (ids.length < 2)
    throw new EspalierError('invalid', `Window ${window} of ${file} has ${ids.length} token ids; it needs at least 2.`, { file })
  return Int32Array.from(ids, (id) => checkId(id, `Window ${window}`, file))
}

function checkId(id: unknown, where: string, file: string): number {
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < 2 ** 31) return id
  throw new EspalierError(
    'invalid',
    `${where} of ${file} has the token id ${describe(id)}; a token id must be a whole number, 0 or more.`,
    { file },
  )
}

async function* yieldAll(texts: string[]): AsyncGenerator<string> {
  yield* texts
}
