import { EspalierError } from '#contract/errors.ts'
import { describe, isObject, reasonOf } from '../checkpoint/json.ts'
import { readChunks } from './text-file.ts'

/** The longest line in characters. No document that a model could run on is longer. */
const longestLine = 100_000_000

/** Possible names of the text field of a document. The first one that exists is used. */
export const textFields = ['text', 'content'] as const

/** Decides by a document's field `kind` whether it is read. Documents without this field are always read. */
export type KindFilter = (kind: string) => boolean

/** Yields the text of each document of a JSON lines file. A document is a string, or an object with a text field. Errors name the line. */
export async function* readJsonLines(file: string, accepts?: KindFilter): AsyncGenerator<string> {
  for await (const { value, where } of parseJsonValues(readChunks(file), file)) {
    if (accepts && isObject(value) && typeof value.kind === 'string' && !accepts(value.kind)) continue
    yield takeText(value, where)
  }
}

/** Yields the text of each document of JSON lines that arrive in pieces. Skips empty lines. */
export async function* parseJsonLines(chunks: AsyncIterable<string>, file: string): AsyncGenerator<string> {
  for await (const { value, where } of parseJsonValues(chunks, file)) yield takeText(value, where)
}

/** Yields the value of each JSON line, with its location for errors (`Line 3 of FILE`). Skips empty lines. */
export async function* parseJsonValues(chunks: AsyncIterable<string>, file: string): AsyncGenerator<{ value: unknown; where: string }> {
  let number = 0
  for await (const line of splitLines(chunks, file)) {
    number++
    const where = `Line ${number} of ${file}`
    if (line.trim() !== '') yield { value: parseLine(line, where), where }
  }
}

async function* splitLines(chunks: AsyncIterable<string>, file: string): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of chunks) {
    const lines = chunk.split('\n')
    const last = lines.pop() as string
    for (const line of lines) {
      yield rest + line
      rest = ''
    }
    rest += last
    if (rest.length > longestLine)
      throw new EspalierError(
        'invalid',
        `${file} has a line of more than ${longestLine.toLocaleString('en-US')} characters, the limit for one document. Split the line.`,
        { file },
      )
  }
  if (rest !== '') yield rest
}

function parseLine(line: string, where: string): unknown {
  try {
    return JSON.parse(line)
  } catch (error) {
    throw new EspalierError('invalid', `${where} is not JSON: ${reasonOf(error)}.`)
  }
}

/** Returns the text of one document: the string itself, or the text field of an object. null counts as empty. */
export function takeText(value: unknown, where: string): string {
  if (typeof value === 'string') return value
  if (!isObject(value))
    throw new EspalierError(
      'invalid',
      `${where} is ${describe(value)}; it must be a string, or an object with a field "text" or "content".`,
    )
  const field = textFields.find((name) => Object.hasOwn(value, name))
  if (!field) {
    const fields = Object.keys(value).slice(0, 8).join(', ')
    const found = fields === '' ? 'it is empty' : `its fields are ${fields}`
    throw new EspalierError('invalid', `${where} has no field "text" or "content"; ${found}.`)
  }
  const text = value[field]
  if (typeof text === 'string') return text
  if (text === null) return ''
  throw new EspalierError('invalid', `${where}: the field "${field}" is ${describe(text)}; it must be a string.`)
}
