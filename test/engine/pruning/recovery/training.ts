import { type Tensor, tensor2d } from '@tensorflow/tfjs-core'
import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import type { Model } from '#engine/model/model.ts'
import type { HeadChunk } from '#engine/model/parts/head/embedding-and-head.ts'
import { FrozenHead } from '#engine/model/parts/head/training-loss.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { LowRank } from '#engine/pruning/recovery/low-rank.ts'
import { type Batch, type PassOptions, TrainingPass } from '#engine/pruning/recovery/pass.ts'
import { Student } from '#engine/pruning/recovery/student.ts'
import { familyModels, fullModels, type ReferenceModel, variedModels } from '../../../fixtures/reference.ts'

/**
 * Models whose gradients are compared with slopes. The others go back through the same code: a tied head takes part in no gradient, rotary
 * tables are only read, and the rest of `mistral-tiny` is in `mistral-window`, of `olmo2` in `olmo3`, of `phi4-mini` in `phi3-tiny` and `phi-tiny`.
 */
const likeOthers: readonly ReferenceModel[] = ['mistral-tiny', 'qwen2-tiny-tied', 'qwen2-yarn', 'qwen3-tied', 'olmo2', 'phi4-mini']
export const trainedModels = [...fullModels, ...variedModels, ...familyModels].filter((name) => !likeOthers.includes(name))

/** Tokens of a window that is longer than the windows of attention and the chunks of DeltaNets. */
export const tokensFor = (spec: DecoderSpec): number =>
  16 + Math.max(...spec.blocks.map((_, block) => spec.slidingWindow(block) ?? (spec.block(block).delta ? 64 : 32)))

/** A student for a plan, with everything for its forward and backward pass. */
export async function openTraining(
  model: Model,
  plan: Plan,
  { keeps = true, products = 'float32', lowRank = false, signal }: Partial<PassOptions> & { readonly lowRank?: boolean } = {},
) {
  const view = viewWithPlan(model, plan)
  const student = await Student.open(model, view.spec, plan, undefined, lowRank ? 'values' : 'moments')
  view.dispose()
  let head: FrozenHead | undefined
  await model.vocabulary.forEachHeadChunk((chunk: HeadChunk) => {
    head = new FrozenHead(chunk, products)
  })
  const factors = lowRank ? new LowRank(student) : undefined
  const gradientsOf = factors && ((name: string, gradient: Tensor) => factors.gradientsOf(name, gradient))
  const pass = new TrainingPass(student, model.vocabulary, head as FrozenHead, { products, keeps, gradientsOf, signal })
  return {
    student,
    trained: factors ?? student,
    pass,
    head: head as FrozenHead,
    dispose() {
      pass.dispose()
      head?.dispose()
      student.dispose()
    },
  }
}

/** The dense model's final states of windows, each [T, D]. */
export async function denseStates(model: Model, windows: readonly Int32Array[]): Promise<Float32Array[]> {
  const states: Float32Array[] = []
  const view = denseView(model)
  await runWindows(
    view,
    windows,
    {
      afterStack(_, x) {
        const final = finalHidden(view, x)
        states.push(final.dataSync() as Float32Array)
        final.dispose()
      },
    },
    1,
  )
  return states
}

/** Windows side by side as one batch. */
export function batchOf(windows: readonly Int32Array[], states: readonly Float32Array[]): Batch {
  const tokens = windows[0]?.length ?? 0
  const ids = Int32Array.from(windows.flatMap((window) => [...window]))
  const values = new Float32Array(states.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const own of states) {
    values.set(own, at)
    at += own.length
  }
  return { ids, batch: windows.length, dense: tensor2d(values, [windows.length * tokens, values.length / (windows.length * tokens)]) }
}

export async function gradientsOf(pass: TrainingPass, batch: Batch): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  const sums = new Map<string, Tensor>()
  const rows = batch.ids.length
  const loss = (await pass.addGradients(batch, 1 / rows, sums)) / rows
  const gradients = new Map<string, Float32Array>()
  for (const [name, tensor] of sums) {
    gradients.set(name, tensor.dataSync() as Float32Array)
    tensor.dispose()
  }
  return { loss, gradients }
}

export const lengthOf = (values: Iterable<number>): number => Math.sqrt([...values].reduce((sum, value) => sum + value * value, 0))
