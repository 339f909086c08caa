import { EspalierError } from '#contract/errors.ts'
import { describe, isObject, reasonOf } from '../checkpoint/json.ts'
import { readChunks } from './text-file.ts'

/** The longest line in characters. No document that a model could run on is longer. */
const longestLine = 100_000_000

/** Names for the text field of a document. The first one found is used. */
export const textFields = ['text', 'content'] as const

/** Which documents are read from a file that names their kinds. */
export type KindFilter = (kind: string) => boolean

/** Documents of a JSON lines file: objects with a text field, or strings. Throws with the line's number. */
export async function* readJsonLines(file: string, accepts?: KindFilter): AsyncGenerator<string> {
  for await (const { value, where } of parseJsonValues(readChunks(file), file)) {
    if (accepts && isObject(value) && typeof value.kind === 'string' && !accepts(value.kind)) continue
    yield takeText(value, where)
  }
}

/** Documents of JSON lines that arrive in pieces. Empty lines are skipped. */
export async function* parseJsonLines(chunks: AsyncIterable<string>, file: string): AsyncGenerator<string> {
  for await (const { value, where } of parseJsonValues(chunks, file)) yield takeText(value, where)
}

/** The values of JSON lines, each with its line number. Empty lines are skipped. */
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
        `${file} has a line of more than ${longestLine} characters, which no document may have. Split it.`,
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

/** The text of one document: a string, or the text field of an object. null counts as empty. */
export function takeText(value: unknown, where: string): string {
  if (typeof value === 'string') return value
  if (!isObject(value)) throw new EspalierError('invalid', `${where} is ${describe(value)}. An object with a field text is needed.`)
  const field = textFields.find((name) => Object.hasOwn(value, name))
  if (!field) {
    const fields = Object.keys(value).slice(0, 8).join(', ') || 'none'
    throw new EspalierError('invalid', `${where} has no field text or content; its fields are ${fields}.`)
  }
  const text = value[field]
  if (typeof text === 'string') return text
  if (text === null) return ''
  throw new EspalierError('invalid', `${where} has ${describe(text)} as ${field}, a string is needed.`)
}
