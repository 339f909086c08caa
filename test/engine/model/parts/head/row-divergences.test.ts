import { randomNormal, type Tensor2D } from '@tensorflow/tfjs-core'
import { expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { openModel } from '#engine/model/model.ts'
import { headLogits } from '#engine/model/parts/head/embedding-and-head.ts'
import { denseDistribution, rowDivergences } from '#engine/model/parts/head/row-divergences.ts'
import { referenceModel } from '../../../../fixtures/reference.ts'
import { testedBackend } from '../../../../fixtures/tested-backend.ts'

const backend = await openBackend(testedBackend)

/** How far divergences may be off because of the precision of products, relative. */
const tolerances = { float32: 1e-4, split: 1e-3, bfloat16: 0.1 }
const kinds = backend.bf16 ? (['float32', 'split', 'bfloat16'] as const) : (['float32'] as const)

const logProbabilities = (logits: readonly number[]): number[] => {
  const top = Math.max(...logits)
  const total = top + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - top), 0))
  return logits.map((value) => value - total)
}

it.each(['qwen3', 'gemma2', 'granite'] as const)(
  'divergence is that of the whole distributions, with capped and scaled logits too: %s',
  async (name) => {
    const model = await openModel(await referenceModel(name))
    const hidden = () => randomNormal([5, model.spec.hidden], 0, 1, 'float32', 3) as Tensor2D
    const candidate = randomNormal([5, model.spec.hidden], 0, 1, 'float32', 4) as Tensor2D
    const logitsOf = async (rows: Tensor2D) => {
      let found: number[][] = []
      await model.vocabulary.forEachHeadChunk((chunk) => {
        found = headLogits(rows, chunk).arraySync()
      })
      return found
    }
    const [dense, other] = [await logitsOf(hidden()), await logitsOf(candidate)]
    for (const products of kinds) {
      const distribution = await denseDistribution(model.vocabulary, hidden(), { products })
      const [found] = (await rowDivergences(model.vocabulary, distribution, [candidate], { products })) as [Float64Array]
      for (const [row, value] of found.entries()) {
        const [p, q] = [logProbabilities(dense[row] as number[]), logProbabilities(other[row] as number[])]
        const expected = p.reduce((sum, log, i) => sum + Math.exp(log) * (log - (q[i] as number)), 0)
        expect(Math.abs(value / expected - 1), products).toBeLessThan(tolerances[products])
      }
    }
    await model.close()
  },
)
