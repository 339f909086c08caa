import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { at } from '#contract/at.ts'
import { findFormat } from '#engine/export/index.ts'
import { openModel } from '#engine/model/model.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { chooseTokens } from '#engine/tokenizer/kept-tokens.ts'
import { openTokenizer, openTokenizerFiles } from '#engine/tokenizer/tokenizer.ts'
import { idsNamedBy } from '#engine/tokenizer/trim-tokenizer.ts'
import { referenceModel } from '../fixtures/reference.ts'
import type { Worker } from './environment.ts'
import type { Llama } from './llama.ts'
import type { Table } from './table.ts'

const count = 10_000
const texts = join(import.meta.dirname, '../fixtures/texts/wikitext-2-test.txt')

/** One tokenizer of bytes, and one of SentencePiece. */
const models: Readonly<Record<string, () => Promise<string>>> = {
  'sample model (bytes)': async () => join(import.meta.dirname, '../../resources/sample-model'),
  'stories260k (SentencePiece)': () => referenceModel('stories260k'),
}

/** Removes half of the tokens of both kinds of tokenizer, and compares how others read texts with what is left. */
export async function checkTrimmed(tools: { transformers: Worker; llama: Llama }, folder: string, table: Table, only = ''): Promise<void> {
  for (const [name, open] of Object.entries(models).filter(([one]) => `trimmed ${one}`.includes(only))) {
    table.title(`Trimmed ${name}: texts of ${count.toLocaleString('en')} whose ids differ`)
    const model = await openModel(await open())
    const { vocabulary } = model.spec
    const [files, whole] = [await openTokenizerFiles(model.path), await openTokenizer(model.path)]
    // llama.cpp reads <unk> in a text as the unknown token, also with the whole vocabulary.
    const real = (await readFile(texts, 'utf8')).replaceAll('<unk>', 'unknown')
    const counts = new Float64Array(vocabulary)
    for (const id of whole.encode(real.slice(0, 100_000))) counts[id] = (counts[id] ?? 0) + 1
    const sizes = { rows: vocabulary, named: idsNamedBy(model.checkpoint.config) }
    const asked = { target: { coverage: 0.85 }, prior: 0, scripts: [] }
    const { kept } = await chooseTokens(files, whole, counts, asked, sizes)
    table.note('tokens that stay', `${kept.length} of ${vocabulary}`)
    const plan = { ...densePlan(model.spec), vocabulary: { kept } }
    const place = (format: string) => join(folder, `trimmed-${format}-${vocabulary}`)
    await findFormat('stock').write({ model, plan, method: 'vocabulary', folder: place('stock') })
    await findFormat('gguf').write({ model, plan, method: 'vocabulary', folder: place('gguf'), ggufTypes: ['F32'] })
    const [file] = (await findFormat('gguf').filesIn?.(place('gguf'))) ?? []
    await model.close()

    const asks = makeTexts(real)
    const own = await openTokenizer(place('stock'))
    const ours = asks.map((text) => own.encode(text))
    const theirs = await tools.transformers.ask<{ ids: number[][]; error?: string }>({
      folder: place('stock'),
      texts: asks,
      tokenizes: true,
    })
    if (theirs.error) table.state('transformers', theirs.error)
    else table.add('transformers', differences(asks, ours, theirs.ids), 0, firstOf(asks, ours, theirs.ids))
    const { ids } = await tools.llama.ask({ file: file?.path ?? '', texts: asks })
    table.add('llama.cpp', differences(asks, ours, ids ?? []), 0, firstOf(asks, ours, ids ?? []))
  }
}

const isSame = (one: readonly number[] = [], other: readonly number[] = []): boolean => one.join() === other.join()

const differences = (asks: readonly string[], one: readonly (readonly number[])[], other: readonly (readonly number[])[]): number =>
  asks.filter((_, index) => !isSame(one[index], other[index])).length

function firstOf(asks: readonly string[], one: readonly (readonly number[])[], other: readonly (readonly number[])[]): string {
  const index = asks.findIndex((_, at) => !isSame(one[at], other[at]))
  return index < 0 ? '' : `${JSON.stringify(asks[index])}: ${one[index]?.join(' ')} | ${other[index]?.join(' ')}`
}

/** Characters of every script, words, templates of chats, calls of tools, and stretches of real text. */
function makeTexts(real: string): string[] {
  const random = new PythonRandom(57)
  const pick = <T>(list: readonly T[]): T => at(list, random.below(list.length))
  const words = real.split(/\s+/).slice(0, 5000)
  const blocks = [0x80, 0x250, 0x800, 0x3000, 0x10000, 0x20000, 0x110000]
  const character = () => {
    for (;;) {
      const code = 1 + random.below(pick(blocks) - 1)
      if (code < 0xd800 || code > 0xdfff) return String.fromCodePoint(code)
    }
  }
  const many = (least: number, most: number, one: () => string, between = '') =>
    Array.from({ length: least + random.below(most - least + 1) }, one).join(between)
  const fuzzed = () => many(1, 24, character)
  const marks = ['<|im_start|>', '<|im_end|>', '<s>', '</s>', '<|endoftext|>', '<tool_call>', '[INST]', '<0x41>', '▁']
  const kinds = [
    fuzzed,
    () => many(1, 12, () => pick([() => pick(words), fuzzed, () => pick(['  ', '\n', '\t', '   ', '\r\n', "'s", '123'])])()),
    () => `${pick(marks)}user\n${many(1, 8, () => pick(words), ' ')}${pick(marks)}\n${pick(marks)}assistant\n`,
    () =>
      `<tool_call>\n${JSON.stringify({ name: pick(words), arguments: { [pick(words)]: random.below(10_000), text: fuzzed() } })}\n</tool_call>`,
    () => {
      const start = random.below(real.length - 200)
      return real.slice(start, start + 20 + random.below(160)).replace(/^[\udc00-\udfff]|[\ud800-\udbff]$/g, '')
    },
  ]
  return Array.from({ length: count }, (_, index) => at(kinds, index % kinds.length)())
}
