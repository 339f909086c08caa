import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { dearerWords } from '#engine/evaluation/dearer-words.ts'
import { readLosses } from '#engine/evaluation/perplexity.ts'
import { openTrimmed } from '#engine/model/kept-model.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { chooseTokens } from '#engine/tokenizer/kept-tokens.ts'
import { openTokenizer, openTokenizerFiles, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { referenceModel } from '../../fixtures/reference.ts'

const text =
  'The gardener planted a tree in the garden, and the neighbours looked at the tree. Then the gardener went home, because the tree was tall.'

let model: Model
let tokenizer: Tokenizer
const models = { bytes: join(import.meta.dirname, '../../../resources/sample-model'), SentencePiece: '' }
beforeAll(() => openBackend('tensorflow'))
afterAll(() => model?.close())

test.each(Object.keys(models))(
  'words that lose their tokens become dearer, and their bits are those of all their tokens (%s)',
  async (kind) => {
    await model?.close()
    model = await openModel(kind === 'bytes' ? models.bytes : await referenceModel('stories260k'))
    const [files, whole] = [await openTokenizerFiles(model.path), await openTokenizer(model.path)]
    tokenizer = whole
    const { vocabulary } = model.spec
    // Only what always stays: words fall apart into characters.
    const counts = new Float64Array(vocabulary).fill(1)
    const asked = { target: { coverage: 0.01 }, prior: 0, scripts: [] }
    const { kept } = await chooseTokens(files, tokenizer, counts, asked, { rows: vocabulary, named: [] })
    const plan = { ...densePlan(model.spec), vocabulary: { kept } }
    const trimmed = await openTrimmed(model, plan, tokenizer)
    if (!trimmed) throw new Error('Rows are missing.')
    const view = viewWithPlan(model, plan)
    const windows = [Int32Array.from(tokenizer.encode(text))]
    const reread = windows.map((window) => trimmed.reread(window))
    const found = await dearerWords({ view: denseView(model), tokenizer, windows }, { view, tokenizer: trimmed.tokenizer, windows: reread })
    expect(found.map((one) => one.after - one.before)).toEqual(found.map((one) => one.after - one.before).sort((a, b) => b - a))
    expect(found.length).toBeGreaterThan(3)
    const [before, after] = [
      await plainBits(tokenizer, denseView(model), windows[0] as Int32Array),
      await plainBits(trimmed.tokenizer, view, reread[0] as Int32Array),
    ]
    for (const one of found) {
      expect(one.count).toBe(text.split(' ').filter((word) => word === one.word).length - (one.word === 'The' ? 1 : 0))
      expect(one.before).toBeCloseTo(before.get(one.word) ?? Number.NaN, 3)
      expect(one.after).toBeCloseTo(after.get(one.word) ?? Number.NaN, 3)
    }
    view.dispose()
  },
)

/** The bits of each word, by the text that the tokens up to each one make. */
async function plainBits(own: Tokenizer, view: ReturnType<typeof denseView>, window: Int32Array): Promise<Map<string, number>> {
  const bits = new Map<string, number>()
  const losses: number[] = []
  await readLosses(view, [window], {}, (found) => void losses.push(...found))
  for (const [at, loss] of losses.entries()) {
    const read = own.decode([...window.subarray(0, at + 2)], { cleanUp: false }).trimStart()
    const rest = text.slice(read.length)
    const word = (read.endsWith(' ') ? rest : (/\S+$/.exec(read)?.[0] ?? '') + rest).split(' ')[0] ?? ''
    const isFirst = !read.includes(' ')
    if (!isFirst) bits.set(word, (bits.get(word) ?? 0) + loss / Math.LN2)
  }
  return bits
}
