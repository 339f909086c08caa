import { cp, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { readLosses } from '#engine/evaluation/perplexity.ts'
import { checkSave } from '#engine/export/check-save.ts'
import type { ExportFormat } from '#engine/export/format.ts'
import { formats } from '#engine/export/index.ts'
import { saveModel } from '#engine/export/save.ts'
import { LlamaProcess } from '#engine/llama/llama-process.ts'
import { openTrimmed } from '#engine/model/kept-model.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { chooseTokens } from '#engine/tokenizer/kept-tokens.ts'
import { openTokenizer, openTokenizerFiles, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { idsNamedBy } from '#engine/tokenizer/trim-tokenizer.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const root = join(import.meta.dirname, '../../..')
const prose = (await readFile(join(root, 'test/fixtures/texts/wikitext-2-test.txt'), 'utf8')).slice(0, 30_000)
const texts = [
  ...Array.from({ length: 40 }, (_, i) => prose.slice(i * 300, i * 300 + 90)),
  'naïve café 東京 😀 “quoted” – dash',
  'in the <middle> of <middle><middle>text',
  "it's  two  spaces\nand\ta line\n\n<s> </s> <|endoftext|> x",
  '',
]

const home = scratchFolder('vocabulary')
beforeAll(async () => {
  await openBackend('tensorflow')
})

const generation = JSON.stringify({ eos_token_id: [0, 700], suppress_tokens: [0, 3071] })

/** A byte-level tokenizer and one of SentencePiece, each in a folder and in a GGUF file. */
const sources: Record<string, () => Promise<string>> = {
  'byte-level, in a folder': async () => {
    const folder = join(home, 'sample')
    await cp(join(root, 'resources/sample-model'), folder, { recursive: true })
    // Older forms of the tokenizer, a token that is suppressed, and one that ends answers too.
    await writeFile(join(folder, 'vocab.json'), '{}')
    await writeFile(join(folder, 'merges.txt'), '')
    await writeFile(join(folder, 'generation_config.json'), generation)
    return folder
  },
  'byte-level with odd tokens, in a folder': makeOdd,
  'SentencePiece, in a folder': () => referenceModel('stories260k'),
  'byte-level, in a GGUF file': () => writeDense(join(root, 'resources/sample-model'), 'sample'),
  'SentencePiece, in a GGUF file': async () => writeDense(await referenceModel('stories260k'), 'stories'),
}

/** A tokenizer with an added token among the others, several merges that make one token, and fewer tokens than the model has rows. */
async function makeOdd(): Promise<string> {
  const folder = join(home, 'odd')
  await cp(join(root, 'resources/sample-model'), folder, { recursive: true })
  const file = join(folder, 'tokenizer.json')
  const { model, added_tokens, ...rest } = JSON.parse(await readFile(file, 'utf8')) as {
    model: { vocab: Record<string, number>; merges: (string | [string, string])[] }
    added_tokens: object[]
  }
  const left = new Map(Object.entries(model.vocab).filter(([, id]) => id !== 1000 && id < 3000))
  const merges = model.merges.map((merge) => (typeof merge === 'string' ? merge.split(' ') : merge) as [string, string])
  const kept = merges.filter(([one, other]) => [one, other, one + other].every((token) => left.has(token)))
  const others = [...left.keys()].flatMap((token): [string, string][] =>
    [...token.slice(1)].flatMap((_, at) => {
      const parts: [string, string] = [token.slice(0, at + 1), token.slice(at + 1)]
      return parts.every((part) => left.has(part)) && !kept.some(([one, other]) => one === parts[0] && other === parts[1]) ? [parts] : []
    }),
  )
  expect(others.length).toBeGreaterThan(100)
  const odd = {
    ...rest,
    added_tokens: [
      ...added_tokens,
      { id: 1000, content: '<middle>', special: true, normalized: false, single_word: false, lstrip: false, rstrip: false },
    ],
    model: { ...model, vocab: Object.fromEntries(left), merges: [...others.slice(0, 50), ...kept, ...others.slice(50)] },
  }
  await writeFile(file, JSON.stringify(odd))
  await writeFile(join(folder, 'generation_config.json'), generation)
  return folder
}

async function writeDense(path: string, name: string): Promise<string> {
  const model = await openModel(path)
  const folder = join(home, `${name}-dense`)
  await formats.gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder, ggufTypes: ['Q8_0'] })
  await model.close()
  return join(folder, (await readdir(folder)).find((file) => file.endsWith('.gguf')) as string)
}

async function lossesOf(view: ModelView, windows: readonly Int32Array[]): Promise<number[]> {
  const found: number[][] = []
  await readLosses(view, windows, {}, (losses, window) => {
    found[window] = [...losses]
  })
  return found.flat()
}

describe.each(Object.entries(sources))('fewer tokens of a tokenizer, %s', (name, source) => {
  let model: Model
  let kept: number[]
  let own: Tokenizer
  beforeAll(async () => {
    model = await openModel(await source())
    const [files, whole] = [await openTokenizerFiles(model.path), await openTokenizer(model.path)]
    const counts = new Float64Array(model.spec.vocabulary)
    for (const id of whole.encode(prose)) counts[id] = (counts[id] ?? 0) + 1
    const asked = { target: { coverage: 0.9 }, prior: 0, scripts: [] }
    const sizes = { rows: model.spec.vocabulary, named: idsNamedBy(model.checkpoint.config) }
    kept = (await chooseTokens(files, whole, counts, asked, sizes)).kept
    own = ((await openTrimmed(model, plan(), whole)) as { tokenizer: Tokenizer }).tokenizer
  })
  afterAll(() => model.close())
  const plan = () => ({ ...densePlan(model.spec), vocabulary: { kept } })

  const inFile = name.includes('GGUF')
  // The file of the smaller model has padded MLPs, which SOURCE refuses to cut back.
  const typeInFile = name.includes('byte-level') ? 'SOURCE' : 'F32'
  const written: [string, ExportFormat, string][] = [
    ['exact', formats.exact, ''],
    ['stock', formats.stock, ''],
    ['gguf', formats.gguf, inFile ? typeInFile : 'F32'],
  ]
  it.each(written)('opens again as %s with equal ids, states and losses', async (id, format, type) => {
    const folder = join(home, `${name}-${id}`.replaceAll(/\W+/g, '-'))
    await format.write({ model, plan: plan(), method: 'vocabulary', folder, ...(type ? { ggufTypes: [type] } : {}) })
    const path = (await format.filesIn?.(folder))?.[0]?.path ?? folder
    const [saved, tokenizer] = [await openModel(path), await openTokenizer(path)]
    try {
      expect(saved.spec.vocabulary).toBe(kept.length)
      expect(tokenizer.size).toBeLessThanOrEqual(kept.length)
      for (const text of texts) {
        expect(tokenizer.encode(text)).toEqual(own.encode(text))
        expect(tokenizer.decode(own.encode(text))).toBe(own.decode(own.encode(text)))
      }
      expect(tokenizer.beginId).toBe(own.beginId)
      // llama.cpp's metadata has one end token.
      if (id !== 'gguf') expect([...tokenizer.endIds].sort()).toEqual([...own.endIds].sort())
      else expect(own.endIds).toContain(tokenizer.endIds[0])
      const windows = [Int32Array.from(own.encode(prose).slice(0, 100))]
      const view = viewWithPlan(model, plan())
      const [expected, found] = [await lossesOf(view, windows), await lossesOf(denseView(saved), windows)]
      view.dispose()
      for (const [place, loss] of found.entries()) expect(loss).toBeCloseTo(expected[place] as number, 4)
    } finally {
      await saved.close()
    }
  })

  it('is weighed as it is written, and passes the test of a save', async () => {
    const folder = join(home, `${name}-saved`.replaceAll(/\W+/g, '-'))
    const type = inFile && typeInFile === 'SOURCE' ? 'SOURCE' : 'Q8_0'
    const asked = { model: model.path, plan: plan(), method: 'vocabulary', formats: ['gguf'], ggufTypes: [type] }
    const [outline] = await checkSave(asked)
    const [file] = await saveModel({ ...asked, model, folder, text: prose }, { progress: () => undefined })
    expect(file?.reload).toMatchObject({ equalTokens: 8, greedyTokens: 8 })
    expect(Math.abs((file?.bytes ?? 0) - (outline?.bytes ?? 0))).toBeLessThan(8192)
    const whole = await checkSave({ ...asked, plan: densePlan(model.spec) })
    expect(outline?.bytes).toBeLessThan(whole[0]?.bytes as number)
  })

  it('is read by llama.cpp with equal ids and losses', async () => {
    const folder = join(home, `${name}-llama`.replaceAll(/\W+/g, '-'))
    await formats.gguf.write({ model, plan: plan(), method: 'vocabulary', folder, ggufTypes: ['F32'] })
    const llama = new LlamaProcess()
    const view = viewWithPlan(model, plan())
    try {
      const file = (await formats.gguf.filesIn?.(folder))?.[0]?.path as string
      await llama.ask('open', file, { context: 128, threads: 1, device: 'CPU', exact: true })
      // llama.cpp reads <unk> as a special token, and puts SentencePiece's space after such tokens in its own way.
      const plain = texts.filter((text) => !/<(s|unk)>/.test(text))
      expect(await llama.ask('tokenize', plain)).toEqual(plain.map((text) => own.encode(text)))
      const window = Int32Array.from(own.encode(prose).slice(0, 100))
      const ours = (await lossesOf(view, [window])).reduce((sum, loss) => sum + loss, 0)
      expect(Math.abs((await llama.ask('loss', window)) / ours - 1)).toBeLessThan(1e-4)
    } finally {
      llama.end()
      view.dispose()
    }
  })

  if (inFile)
    it('copies quantised rows as they are', async () => {
      const folder = join(home, `${name}-copied`.replaceAll(/\W+/g, '-'))
      await formats.gguf.write({ model, plan: plan(), method: 'vocabulary', folder, ggufTypes: ['Q8_0'] })
      const saved = await openModel((await formats.gguf.filesIn?.(folder))?.[0]?.path as string)
      const rows = ({ checkpoint, spec }: Model, first: number) => checkpoint.readStored?.(spec.embedding, { first, count: 1 })
      for (const row of [0, 17, kept.length - 1]) expect(await rows(saved, row)).toEqual(await rows(model, kept[row] as number))
      await saved.close()
    })
  else
    it('leaves no other form of the whole vocabulary, and renumbers what configs name', async () => {
      const folder = join(home, `${name}-files`.replaceAll(/\W+/g, '-'))
      await formats.stock.write({ model, plan: plan(), method: 'vocabulary', folder })
      const files = await readdir(folder)
      expect(files.filter((file) => /^(vocab|merges)|\.model$/.test(file))).toEqual([])
      const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Record<string, number>
      expect(config.vocab_size).toBe(kept.length)
      const named = model.checkpoint.config.eos_token_id as number
      expect(config.eos_token_id).toBe(kept.indexOf(named))
      if (!files.includes('generation_config.json')) return
      const generation = JSON.parse(await readFile(join(folder, 'generation_config.json'), 'utf8')) as Record<string, number[]>
      expect(generation.eos_token_id).toEqual([0, kept.indexOf(700)])
      expect(generation.suppress_tokens).toEqual(kept.includes(3071) ? [0, kept.indexOf(3071)] : [0])
    })
})
