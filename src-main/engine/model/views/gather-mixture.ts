import { gather, mul, reshape, slice, type Tensor, type Tensor1D, type Tensor2D, tensor1d } from '@tensorflow/tfjs-core'
import type { MlpPlan } from '#contract/pruning/plan.ts'
import { isConstant } from '#engine/architectures/spec.ts'
import type { FloatDtype } from '#engine/checkpoint/dtypes.ts'
import { cloneTensors } from '#engine/tensor/clone.ts'
import type { Matrix } from '#engine/tensor/products.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import { roundTo } from '../weights/round.ts'
import { disposePart } from '../weights/unpack.ts'
import { isUnread, type MixtureWeights, type MlpWeights, type UnreadExpert } from '../weights/weights.ts'
import { gatherMlp } from './gather-mlp.ts'
import { keptExperts } from './kept-experts.ts'

/**
 * Copies what a plan leaves of a mixture: the remaining experts and their rows of the router, with vectors from `constants` [n, D] for
 * experts that became constant. Scaled weights are rounded to `dtype`, as they will be when saved. Unread experts are changed when read.
 */
export function gatherMixture(
  weights: MixtureWeights,
  plan: Exclude<MlpPlan, 'removed'>,
  constants: Tensor2D | undefined,
  dtype: FloatDtype,
): MixtureWeights {
  const kept = keptExperts(plan, weights.experts.length)
  const { router, routerBias, correction, experts, ...others } = weights
  return tidied(() => {
    const rows = tensor1d(
      kept.map(({ number }) => number),
      'int32',
    )
    let constant = 0
    return {
      ...cloneTensors(others),
      router: gather(router, rows),
      ...(routerBias ? { routerBias: gather(routerBias, rows) } : {}),
      ...(correction ? { correction: gather(correction, rows) } : {}),
      experts: kept.map((one) => {
        if (one.constant) return { constant: row(constants as Tensor2D, constant++) }
        const expert = experts[one.number] as (typeof experts)[number]
        if (isConstant(expert)) return cloneTensors(expert)
        const change = (whole: MlpWeights): MlpWeights => {
          const gathered = one.kept === 'all' ? cloneTensors(whole) : gatherMlp(whole, { kept: [...one.kept] })
          return plan.expertScale === undefined ? gathered : scaleDown(gathered, plan.expertScale, dtype)
        }
        if (!isUnread(expert)) return change(expert)
        const changes = one.kept !== 'all' || plan.expertScale !== undefined
        return changes ? changeExpert(expert, (whole) => tidied(() => change(whole))) : expert
      }),
    }
  })
}

function scaleDown(expert: MlpWeights, scale: number, dtype: FloatDtype): MlpWeights {
  const scaled = <T extends Tensor>(x: T): T => roundTo(mul<T>(x, scale), dtype)
  return { ...expert, down: scaled(expert.down), ...(expert.downBias ? { downBias: scaled(expert.downBias) } : {}) }
}

/** Returns an expert to which `change` is applied each time that it is read. */
export function changeExpert<M extends Matrix>(
  { read, readAhead }: UnreadExpert,
  change: (whole: MlpWeights) => MlpWeights<M>,
): UnreadExpert<M> {
  return {
    readAhead,
    async read() {
      const mlp = await read()
      try {
        return change(mlp)
      } finally {
        disposePart({ mlp })
      }
    },
  }
}

const row = (rows: Tensor2D, place: number): Tensor1D => reshape(slice(rows, [place, 0], [1, -1]), [-1])
