import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { lowersClearly, raisesClearly } from '#contract/data/begin-token.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { beginTokenOf, decideBegin, measureBegin } from '#engine/evaluation/begin-token.ts'
import { readLosses } from '#engine/evaluation/perplexity.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { sampleModel } from '#runtime/resources.ts'
import { referenceModel, referenceWindows } from '../../fixtures/reference.ts'

let model: Model
let tokenizer: Tokenizer
beforeAll(async () => {
  await openBackend('tensorflow')
  model = await openModel(await referenceModel('stories260k'))
  tokenizer = (await openModelTokenizer(model)) as Tokenizer
})
afterAll(() => model.close())

const never = () => Promise.reject(new Error('Nothing should be measured.'))

it('both figures are of the same tokens: those after the first of each window', async () => {
  const windows = (await referenceWindows('test')).slice(0, 3).map((window) => window.subarray(0, 63))
  const found = await measureBegin(denseView(model), windows, 1)
  const lossesOf = async (from: Int32Array[]) => {
    const losses: number[][] = []
    for (const window of from) await readLosses(denseView(model), [window], {}, (own) => losses.push([...own]))
    return losses
  }
  const perplexity = (losses: number[][]) => Math.exp(losses.flat().reduce((sum, loss) => sum + loss, 0) / losses.flat().length)
  const plain = await lossesOf(windows)
  const begun = (await lossesOf(windows.map((window) => Int32Array.of(1, ...window)))).map((losses) => losses.slice(1))
  expect(begun.map(({ length }) => length)).toEqual(plain.map(({ length }) => length))
  expect(found.without).toBeCloseTo(perplexity(plain), 3)
  expect(found.with).toBeCloseTo(perplexity(begun), 3)
  expect(found).toMatchObject({ windows: 3, sequenceLength: 64 })
})

it('a tenth of the perplexity decides, either way', () => {
  expect(lowersClearly({ without: 100, with: 89 })).toBe(true)
  expect(lowersClearly({ without: 100, with: 91 })).toBe(false)
  expect(raisesClearly({ without: 89, with: 100 })).toBe(true)
  expect(raisesClearly({ without: 91, with: 100 })).toBe(false)
})

describe('how windows begin', () => {
  it('is as in the reference without measuring, and always with the token if that was asked for', async () => {
    expect(await decideBegin('reference', { spec: model.spec, tokenizer }, never)).toEqual({
      id: undefined,
      used: { asked: 'reference', begins: false, token: '<s>' },
    })
    expect(await decideBegin('always', { spec: model.spec, tokenizer }, never)).toEqual({
      id: 1,
      used: { asked: 'always', begins: true, token: '<s>' },
    })
  })

  it('follows from the figures of a few windows of the bundled prose', async () => {
    const figures = { windows: 4, sequenceLength: 256 }
    const decide = (without: number, begun: number) =>
      decideBegin('auto', { spec: model.spec, tokenizer }, async (windows, id) => {
        expect(windows.map(({ length }) => length)).toEqual([255, 255, 255, 255])
        expect(id).toBe(1)
        return { ...figures, without, with: begun }
      })
    expect(await decide(105, 32)).toEqual({
      id: 1,
      used: { asked: 'auto', begins: true, token: '<s>', figures: { ...figures, without: 105, with: 32 } },
    })
    expect(await decide(33, 32)).toMatchObject({ id: undefined, used: { begins: false, figures: { without: 33, with: 32 } } })
  })

  it('cannot be with a token that the tokenizer lacks or the vocabulary does not hold', async () => {
    const { beginId: _, prefixId: __, ...none } = tokenizer
    expect(await decideBegin('auto', { spec: model.spec, tokenizer: none }, never)).toMatchObject({ id: undefined, used: { token: null } })
    expect(await decideBegin('auto', { spec: model.spec, tokenizer: undefined }, never)).toMatchObject({ used: { token: null } })
    await expect(decideBegin('always', { spec: model.spec, tokenizer: none }, never)).rejects.toThrow(
      /has no begin token\. Choose auto or reference/,
    )
    await expect(decideBegin('always', { spec: model.spec, tokenizer: undefined }, never)).rejects.toThrow(/no tokenizer\.json/)
    expect(beginTokenOf({ spec: { ...model.spec, vocabulary: 1 }, tokenizer })).toBeUndefined()
  })

  it('is without it if the tokenizer makes no tokens of the text', async () => {
    const silent = { ...tokenizer, encode: () => [] }
    expect(await decideBegin('auto', { spec: model.spec, tokenizer: silent }, never)).toMatchObject({
      id: undefined,
      used: { begins: false },
    })
  })
})

/** The recorded results of both models have no begin token, so `auto` must not change what a user of them sees without saying so. */
it.each([
  ['stories260k', () => referenceModel('stories260k'), undefined],
  ['the sample model', async () => sampleModel(), undefined],
] as const)('auto reads texts of %s as its recorded results do', async (_, find, id) => {
  const opened = await openModel((await find()) as string)
  const own = await openModelTokenizer(opened)
  const found = await decideBegin('auto', { spec: opened.spec, tokenizer: own }, (windows, begin) =>
    measureBegin(denseView(opened), windows, begin),
  )
  expect(found.used.figures).toBeDefined()
  expect(found.id).toBe(id)
  await opened.close()
})
