import { gather, mul, reshape, slice, type Tensor, type Tensor1D, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import type { MlpPlan } from '#contract/pruning/plan.ts'
import { isConstant } from '#engine/architectures/spec.ts'
import type { FloatDtype } from '#engine/checkpoint/dtypes.ts'
import { disposePart, roundTo } from '#engine/model/weights/unpack.ts'
import { isUnread, type MixtureWeights, type MlpWeights, type UnreadExpert } from '#engine/model/weights/weights.ts'
import type { Matrix } from '#engine/tensor/products.ts'
import { cloneTensors, tidied } from '#engine/tensor/tidied.ts'
import { keptExperts } from './kept-experts.ts'

type KeptMlp = Exclude<MlpPlan, 'removed'>

/** Whether a plan changes an MLP or its experts at all. */
export const needsGather = (mlp: KeptMlp): boolean =>
  mlp.kept !== 'all' ||
  [mlp.inputs, mlp.outputs, mlp.experts, mlp.keptByExpert, mlp.constants, mlp.expertScale].some((one) => one !== undefined)

/** Copies an MLP with only its kept neurons, in index order. Removed hidden channels are set to zero, so that other weights still fit. */
export function gatherMlp(weights: MlpWeights, plan: KeptMlp): MlpWeights {
  const gathered = (): MlpWeights => {
    const width = weights.down.shape[0]
    const inputs = plan.inputs && onesAt(plan.inputs, weights.up.shape[1])
    const outputs = plan.outputs && reshape<import('@tensorflow/tfjs-core').Rank.R2>(onesAt(plan.outputs, width), [width, 1])
    const kept = plan.kept === 'all' ? undefined : tensor1d(plan.kept, 'int32')
    const rows = <T extends Tensor>(x: T): T => (kept ? gather(x, kept, 0) : (x.clone() as T))
    const narrow = (x: Tensor2D): Tensor2D => (inputs ? mul(rows(x), inputs) : rows(x))
    const down = kept ? gather(weights.down, kept, 1) : weights.down.clone()
    return {
      ...(weights.norm ? { norm: cloneTensors(weights.norm) } : {}),
      ...(weights.outputNorm ? { outputNorm: cloneTensors(weights.outputNorm) } : {}),
      up: narrow(weights.up),
      down: outputs ? mul<Tensor2D>(down, outputs) : down,
      ...(weights.gate ? { gate: narrow(weights.gate) } : {}),
      ...(weights.gateBias ? { gateBias: rows(weights.gateBias) } : {}),
      ...(weights.upBias ? { upBias: rows(weights.upBias) } : {}),
      ...(weights.downBias ? { downBias: weights.downBias.clone() } : {}),
    }
  }
  return tidy(gathered as never) as unknown as MlpWeights
}

/** A vector with ones at the given indices and zeros elsewhere. */
function onesAt(indices: readonly number[], size: number): Tensor1D {
  const ones = new Float32Array(size)
  for (const index of indices) ones[index] = 1
  return tensor1d(ones)
}

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
