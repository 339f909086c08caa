import { beforeAll, describe, expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { beamSearch } from '#engine/evaluation/generation/beam-search.ts'
import { candidates, chooseToken, logProbabilities, repeatedNgramEnds, topIndices } from '#engine/evaluation/generation/sampling.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
import { expectedOf, fullModels, referenceModel } from '../../fixtures/reference.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'
import { makeValidModel, writeModelFiles } from '../checkpoint/valid-model.ts'
import { logitsOf, relativeError } from '../model/logits.ts'

interface Recorded {
  readonly generation: {
    readonly dense: readonly {
      readonly prompt_ids: number[]
      readonly greedy_ids: number[]
      readonly beam5: { readonly ids: number[]; readonly kwargs: { readonly eos_token_id: number }; readonly sequence_score: number }
    }[]
  }
}

describe('generation against the reference', () => {
  beforeAll(() => openBackend(testedBackend))

  it.each(fullModels)('continues greedily and by beam search as recorded for %s', async (name) => {
    const model = await openModel(await referenceModel(name))
    const view = denseView(model)
    for (const recorded of (await expectedOf<Recorded>(name)).generation.dense) {
      const session = new DecodingSession(view)
      let [logits] = await session.feed(Int32Array.from(recorded.prompt_ids), 1)
      const greedy: number[] = []
      while (greedy.length < recorded.greedy_ids.length) {
        greedy.push(topIndices(logits ?? [], 1)[0] ?? -1)
        ;[logits] = await session.feed(Int32Array.of(greedy.at(-1) ?? 0), 1)
      }
      session.dispose()
      expect(greedy).toEqual(recorded.greedy_ids)
      const endIds = [recorded.beam5.kwargs.eos_token_id]
      const answer = await beamSearch(view, recorded.prompt_ids, {
        beams: 5,
        noRepeatNgram: 3,
        earlyStopping: true,
        maxLength: 128,
        endIds,
      })
      expect(answer.ids).toEqual(recorded.beam5.ids)
      expect(answer.score).toBeCloseTo(recorded.beam5.sequence_score, 5)
    }
    await model.close()
  })

  it('decodes with the cache what it computes without, when whole blocks and the last attention are gone', async () => {
    const model = await openModel(await referenceModel('stories260k'))
    const view = viewWithPlan(model, removeParts(densePlan(model.spec), [2, 3, 8]))
    const ids = Int32Array.from([1, 403, 407, 261, 378, 432, 383])
    const session = new DecodingSession(view)
    let [last] = await session.feed(ids.subarray(0, 3), 1)
    for (const id of ids.subarray(3)) [last] = await session.feed(Int32Array.of(id), 1)
    session.dispose()
    const whole = (await logitsOf(view, ids)).at(-1) ?? []
    expect(relativeError(Array.from(last ?? []), whole)).toBeLessThan(1e-5)
    await model.close()
  })
})

describe('a model whose logits overflow', () => {
  it.each(['step by step', 'along a prompt', 'by beam search'])('is refused with its name and the position: %s', async (way) => {
    await openBackend(testedBackend)
    const folder = scratchOfTest('overflowing')
    const valid = makeValidModel()
    for (const name of ['lm_head.weight', 'model.norm.weight'])
      new Float32Array(valid.tensors[name]?.bytes.buffer as ArrayBuffer).fill(3e38)
    await writeModelFiles(folder, valid)
    const model = await openModel(folder)
    const view = denseView(model)
    const session = new DecodingSession(view)
    const says = new RegExp(`prediction of ${model.name} after \\d tokens? came out infinite or not a number`)
    const prompt = [1, 40, 7]
    const ask = {
      'step by step': () => session.feed(Int32Array.from(prompt), 1),
      'along a prompt': () => session.feedAlong(Int32Array.from(prompt), 0, () => {}),
      'by beam search': () => beamSearch(view, prompt, { beams: 2, noRepeatNgram: 0, earlyStopping: true, maxLength: 8, endIds: [] }),
    }[way]
    await expect(ask?.()).rejects.toThrow(says)
    session.dispose()
    await model.close()
  })
})

describe('choosing tokens', () => {
  it('takes the likeliest token at temperatures so low that a logit over them is infinite', () => {
    const logits = Float32Array.from([1, 3, 2, -4])
    const settings = { topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 }
    for (const temperature of [1e-38, 5e-324]) {
      expect(chooseToken(logits, [], { ...settings, temperature }, () => 0.999)).toBe(1)
      expect(candidates(logits, [], { ...settings, temperature })[0]).toEqual({ id: 1, probability: 1 })
    }
  })

  it('keeps the smallest set of tokens that reaches top-p, and renormalises it', () => {
    const logits = Float32Array.from([Math.log(0.5), Math.log(0.3), Math.log(0.15), Math.log(0.05)])
    const left = candidates(logits, [], { temperature: 1, topK: 0, topP: 0.7, minP: 0, repetitionPenalty: 1 })
    expect(left.map(({ id }) => id)).toEqual([0, 1])
    expect(left[0]?.probability).toBeCloseTo(0.625, 6)
  })

  it('drops what is less likely than min-p times the likeliest', () => {
    const logits = Float32Array.from([Math.log(0.5), Math.log(0.3), Math.log(0.15), Math.log(0.05)])
    expect(candidates(logits, [], { temperature: 1, topK: 0, topP: 1, minP: 0.35, repetitionPenalty: 1 }).map(({ id }) => id)).toEqual([
      0, 1,
    ])
  })

  it('takes the likeliest token at temperature 0, after the repetition penalty', () => {
    const settings = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 2 }
    expect(chooseToken(Float32Array.from([2, 1.5, -1]), [], settings, () => 0)).toBe(0)
    expect(chooseToken(Float32Array.from([2, 1.5, -1]), [0], settings, () => 0)).toBe(1)
  })

  it('finds every token that would repeat a trigram', () => {
    expect([...repeatedNgramEnds([1, 2, 3, 1, 2], 3)]).toEqual([3])
    expect([...repeatedNgramEnds([1, 2], 3)]).toEqual([])
  })

  it('gives log-probabilities that sum to one and top indices with ties to the lower index', () => {
    const scores = logProbabilities([1000, 1001, 999])
    expect(scores.reduce((sum, score) => sum + Math.exp(score), 0)).toBeCloseTo(1, 12)
    expect(topIndices([3, 5, 5, 1], 3)).toEqual([1, 2, 0])
  })
})
