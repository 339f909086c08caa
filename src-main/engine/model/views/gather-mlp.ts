import { gather, mul, reshape, type Tensor, type Tensor1D, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import type { MlpPlan } from '#contract/pruning/plan.ts'
import { cloneTensors } from '#engine/tensor/clone.ts'
import type { MlpWeights } from '../weights/weights.ts'

export type KeptMlp = Exclude<MlpPlan, 'removed'>

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
