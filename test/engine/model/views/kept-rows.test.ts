import { memory } from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { readLosses } from '#engine/evaluation/perplexity.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import { denseView, type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan, reachedSparsity, removedParameters } from '#engine/pruning/plan.ts'
import { type ReferenceModel, referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'
import { logitsOf } from '../logits.ts'

beforeAll(() => openBackend(testedBackend))

async function statesOf(view: ModelView, windows: readonly Int32Array[]): Promise<Float32Array> {
  const found: Float32Array[] = []
  await runWindows(view, windows, {
    async afterStack(_, x) {
      const hidden = finalHidden(view, x)
      found.push(hidden.dataSync().slice() as Float32Array)
      hidden.dispose()
    },
  })
  return Float32Array.from(found.flatMap((own) => [...own]))
}

async function lossesOf(view: ModelView, windows: readonly Int32Array[]): Promise<number[]> {
  const found: number[][] = []
  await readLosses(view, windows, {}, (losses, window) => {
    found[window] = [...losses]
  })
  return found.flat()
}

// A tied head, an untied one with a bias, a cap on logits with a scaled embedding, and separate embedding and head.
const names: readonly ReferenceModel[] = ['stories260k', 'phi-tiny', 'gemma3', 'gemma2', 'qwen2-tiny']

describe.each(names)('%s with fewer rows', (name) => {
  let model: Model
  let windows: Int32Array[]
  let kept: number[]
  let own: Int32Array[]
  beforeAll(async () => {
    model = await openModel(await referenceModel(name))
    windows = (await referenceWindows('test')).slice(0, 2).map((window) => window.subarray(0, 80))
    const used = new Set(windows.flatMap((window) => [...window]))
    // Rows at both ends go, and some between.
    kept = [...Array(model.spec.vocabulary).keys()].filter((id) => used.has(id) || (id > 9 && id % 3 === 0))
    own = windows.map((window) => window.map((id) => kept.indexOf(id)))
  })
  afterAll(() => model.close())

  const trimmed = () => viewWithPlan(model, { ...densePlan(model.spec), vocabulary: { kept } })

  it('has equal states, equal logits of the rows that stay, and no larger loss', async () => {
    const view = trimmed()
    expect(kept.length).toBeLessThan(model.spec.vocabulary)
    expect(view.spec.vocabulary).toBe(kept.length)
    expect(await statesOf(view, own)).toEqual(await statesOf(denseView(model), windows))
    const [dense, less] = [await lossesOf(denseView(model), windows), await lossesOf(view, own)]
    expect(less.length).toBe(dense.length)
    for (const [place, loss] of less.entries()) expect(loss).toBeLessThanOrEqual((dense[place] as number) + 1e-5)
    expect(less.some((loss, place) => loss < (dense[place] as number) - 1e-5)).toBe(true)
    const [first, last] = [await logitsOf(denseView(model), windows[0] as Int32Array), await logitsOf(view, own[0] as Int32Array)]
    for (const [place, logits] of last.entries())
      for (const [row, logit] of logits.entries())
        expect(Math.abs(logit - (first[place]?.[kept[row] as number] as number))).toBeLessThan(1e-4)
    view.dispose()
  })

  it('computes the same when rows are read from disk, and keeps no tensors', async () => {
    const view = trimmed()
    const expected = await lossesOf(view, own)
    view.dispose()
    const before = memory().numTensors
    // Several pieces, as of a large vocabulary.
    const vocabulary = Object.assign(await Vocabulary.open(model.checkpoint, model.spec, false), { chunkRows: 100 })
    const streamed = viewWithPlan({ ...model, vocabulary }, { ...densePlan(model.spec), vocabulary: { kept } })
    for (const [place, loss] of (await lossesOf(streamed, own)).entries()) expect(loss).toBeCloseTo(expected[place] as number, 5)
    streamed.dispose()
    vocabulary.dispose()
    trimmed().dispose()
    expect(memory().numTensors).toBe(before)
  })

  it('counts the removed parameters of the whole model', () => {
    const plan = { ...densePlan(model.spec), vocabulary: { kept } }
    const matrices = model.spec.head.weight === model.spec.embedding ? 1 : 2
    const gone = model.spec.vocabulary - kept.length
    expect(removedParameters(model.spec, plan)).toBe(gone * (matrices * model.spec.hidden + (model.spec.head.bias ? 1 : 0)))
    expect(specWithPlan(model.spec, plan).vocabulary).toBe(kept.length)
    expect(reachedSparsity(model.spec, plan)).toBeGreaterThan(0)
  })

  it('refuses rows out of order, beyond the vocabulary, and none', () => {
    for (const wrong of [[3, 2], [0, model.spec.vocabulary], [], [1, 1]])
      expect(() => viewWithPlan(model, { ...densePlan(model.spec), vocabulary: { kept: wrong } })).toThrow(/kept rows of the vocabulary/)
  })
})
