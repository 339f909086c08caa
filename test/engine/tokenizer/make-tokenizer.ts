import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Writes JSON files into a folder to open a tokenizer from. */
export async function writeTokenizer(folder: string, files: Record<string, unknown>): Promise<string> {
  await mkdir(folder, { recursive: true })
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return folder
}

/** The characters that represent the 256 bytes in byte-level tokenizers. */
function byteAlphabet(): string[] {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
    return String.fromCodePoint(printable ? byte : next++)
  })
}

/** A byte-level pair encoding with the given merges, such as `Ġ t`. */
export function makeByteLevel(merges: string[], more: Record<string, unknown> = {}): Record<string, unknown> {
  const tokens = ['<|end|>', ...byteAlphabet(), ...merges.map((merge) => merge.replace(' ', ''))]
  return {
    added_tokens: [{ id: 0, content: '<|end|>', special: true }],
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges },
    ...more,
  }
}
