import { dispose, type Tensor } from '@tensorflow/tfjs-core'
import { stepAdam, sumOfSquares } from './adamw.ts'
import type { Trained } from './low-rank.ts'
import type { Batch, TrainingPass } from './pass.ts'
import type { Master } from './student.ts'

/** The gradient is clipped to this length over all tensors. */
const longest = 1

export interface StepResult {
  /** The mean divergence over all rows of the step, before weights change. */
  readonly loss: number
  /** The length of the gradient before it was clipped. */
  readonly length: number
  /** The tensor nearest to the loss whose gradient is not finite. */
  readonly broken?: string | undefined
}

export interface StepCall {
  /** Counted from 1. */
  readonly step: number
  readonly rate: number
}

/**
 * Runs one step of training on some batches, which are created when needed and disposed of here. If the loss or a gradient is not finite,
 * no weight changes, and the result says so. A cancelled step may have updated some weights and not others, so the training must be
 * discarded.
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

/**
 * Returns the values of the gradients, their length over all tensors, and the first tensor that is not finite. Disposes of the tensors one
 * by one.
 */
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
