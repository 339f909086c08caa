import { dispose, type Tensor } from '@tensorflow/tfjs-core'
import { lengthOf, stepAdam } from './adamw.ts'
import type { Trained } from './low-rank.ts'
import type { Batch, TrainingPass } from './pass.ts'
import type { Master } from './student.ts'

/** The length that gradients over all tensors have at most. */
const longest = 1

export interface StepResult {
  /** The mean divergence over all rows of the step, before it. */
  readonly loss: number
  /** The gradient's length before it was clipped. */
  readonly length: number
}

export interface StepCall {
  /** Counted from 1. */
  readonly step: number
  readonly rate: number
}

/**
 * One step of training on some batches, made when they are needed and disposed of here. Where loss or gradient are no numbers nothing is
 * changed, and the result says so.
 */
export async function trainStep(
  trained: Trained,
  pass: TrainingPass,
  batches: readonly (() => Promise<Batch>)[],
  rows: number,
  { step, rate }: StepCall,
): Promise<StepResult> {
  const sums = new Map<string, Tensor>()
  let total = 0
  try {
    for (const make of batches) {
      const batch = await make()
      total += await pass.addGradients(batch, 1 / rows, sums).finally(() => batch.dense.dispose())
    }
    const gradients = readGradients(sums)
    const length = lengthOf(gradients.values())
    const result = { loss: total / rows, length }
    if (!Number.isFinite(result.loss) || !Number.isFinite(length)) return result
    const factor = Math.min(1, longest / length)
    trained.release()
    for (const [name, gradient] of gradients) await stepAdam(trained.masters.get(name) as Master, gradient, { step, rate, factor })
    await trained.refresh()
    return result
  } finally {
    dispose([...sums.values()])
  }
}

/** The numbers of gradients, whose tensors are given back one by one. */
function readGradients(sums: Map<string, Tensor>): Map<string, Float32Array> {
  const gradients = new Map<string, Float32Array>()
  for (const [name, tensor] of sums) {
    gradients.set(name, tensor.dataSync() as Float32Array)
    tensor.dispose()
  }
  sums.clear()
  return gradients
}
