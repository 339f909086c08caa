import { EspalierError } from '#contract/errors.ts'

/** Returns the text of a file that the user chose. Throws, instead of replacing what cannot be read, if it is not UTF-8. */
export async function readText(file: Pick<File, 'name' | 'arrayBuffer'>): Promise<string> {
  const bytes = await file.arrayBuffer()
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new EspalierError('invalid', `${file.name} is not UTF-8 text. Convert it to UTF-8.`)
  }
}
