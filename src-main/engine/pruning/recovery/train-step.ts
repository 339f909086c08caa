import { dispose, type Tensor } from '@tensorflow/tfjs-core'
import { stepAdam, sumOfSquares } from './adamw.ts'
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
  /** Whose gradient is no number: the tensor nearest to the loss. */
  readonly broken?: string | undefined
}

export interface StepCall {
  /** Counted from 1. */
  readonly step: number
  readonly rate: number
}

/**
 * One step of training on some batches, made when they are needed and disposed of here. Where loss or gradient are no numbers nothing is
 * changed, and the result says so. A cancel may leave some weights stepped and others not: the training is lost then.
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
    const { gradients, length, broken } = await readGradients(sums, pass)
    const result = { loss: total / rows, length, broken }
    if (!Number.isFinite(result.loss) || !Number.isFinite(length)) return result
    const factor = Math.min(1, longest / length)
    trained.release()
    const pause = () => pass.pause()
    for (const [name, gradient] of gradients) await stepAdam(trained.masters.get(name) as Master, gradient, { step, rate, factor }, pause)
    await trained.refresh(pause)
    return result
  } finally {
    dispose([...sums.values()])
  }
}

/** The numbers of gradients, whose tensors are given back one by one, their length over all tensors, and the first that are none. */
async function readGradients(
  sums: Map<string, Tensor>,
  pass: TrainingPass,
): Promise<{ gradients: Map<string, Float32Array>; length: number; broken: string | undefined }> {
  const gradients = new Map<string, Float32Array>()
  let squares = 0
  let broken: string | undefined
  for (const [name, tensor] of sums) {
    await pass.pause()
    const values = tensor.dataSync() as Float32Array
    gradients.set(name, values)
    squares += sumOfSquares(values)
    if (!Number.isFinite(squares)) broken ??= name
    sums.delete(name)
    tensor.dispose()
  }
  return { gradients, length: Math.sqrt(squares), broken }
}
