import type { Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { Windows } from '#engine/data/windows.ts'
import { normalize } from '#engine/tensor/norm.ts'
import type { Products } from '#engine/tensor/products.ts'
import { disposeResidual, type NeuronSums, type PartActivations } from './parts/part.ts'
import type { ModelView } from './views/view.ts'
import { breathe, type Stream, Walk } from './walk.ts'
import type { Part } from './weights/weights.ts'

/**
 * The maximum number of rows of activations per product. Groups and branches are joined up to this number, because larger products are no
 * faster.
 */
export const rowsPerCall = 2048

/** How many groups pass a part together if its weights are packed for them. More would save almost nothing. */
const groupsPerPacking = 8

/** Windows of equal length that go through the stack together. */
export interface WindowGroup {
  /** The indices of these windows in the list that was passed in. */
  readonly indices: readonly number[]
  readonly ids: Int32Array
  readonly batch: number
  readonly tokens: number
}

/** Groups windows of equal length, in order, up to `rowsPerCall` tokens each. */
export function groupWindows(windows: Windows, rows = rowsPerCall): WindowGroup[] {
  const groups: number[][] = []
  windows.forEach((window, index) => {
    const last = groups.at(-1)
    const length = last && windows[last[0] as number]?.length
    if (last && length === window.length && (last.length + 1) * window.length <= rows) last.push(index)
    else groups.push([index])
  })
  return groups.map((indices) => {
    const tokens = at(windows, at(indices, 0)).length
    const ids = new Int32Array(indices.length * tokens)
    indices.forEach((index, i) => {
      ids.set(windows[index] as Int32Array, i * tokens)
    })
    return { indices, ids, batch: indices.length, tokens }
  })
}

interface StackVisitor {
  /** Receives the stream after each part, and before the first one (as part -1): [B*T, D]. It is valid during the call only. */
  afterPart?(group: WindowGroup, part: Part | -1, x: Tensor2D): void
  /** Receives what each part reads and writes. The tensors are valid during the call only. */
  observe?(group: WindowGroup, part: Part, seen: PartActivations): void
  /** Receives sums of the neurons of each MLP. They are valid during the call only. */
  sumNeurons?(group: WindowGroup, part: Part, sums: NeuronSums): void
  /** Receives the stream after the last block, before the final norm. It is valid during the call only. */
  afterStack?(group: WindowGroup, x: Tensor2D): void | Promise<void>
  /** Whether to end at the input of the last part's last projection. Its output is then not computed, and `afterStack` is not called. */
  readonly endsBeforeOutput?: boolean
  /** The kind of products in parts. Default: the model's products for passes. */
  readonly products?: Products
  /** Called after each part, with how many parts of all groups are done. */
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/**
 * Runs windows through the block stack. With resident weights, groups run one after another, so that little is in memory at once, or a few
 * together if weights are packed for the pass. With streamed weights, as many groups run together as fit into half the workspace, so that
 * each part is read once for all of them. With `rows` 1, no window shares a product with another, so its results do not depend on others.
 */
export async function runWindows(view: ModelView, windows: Windows, visitor: StackVisitor, rows = rowsPerCall): Promise<void> {
  const groups = groupWindows(windows, rows)
  const walk = new Walk(view, visitor.products ?? view.model.products.passes)
  const bytes = Math.max(...groups.map((group) => streamEntryBytes(view) * group.ids.length * view.spec.hidden), 1)
  const fitting = Math.max(1, Math.floor(view.model.workspaceBytes / 2 / bytes))
  const together = view.model.store.streams ? fitting : walk.packsWeights ? Math.min(fitting, groupsPerPacking) : 1
  const total = groups.length * view.parts.length
  let done = 0
  try {
    for (let first = 0; first < groups.length; first += together) {
      await runGroups(view, groups.slice(first, first + together), walk, visitor, (parts) => {
        done += parts
        visitor.progress?.(done, total)
      })
    }
  } finally {
    walk.dispose()
  }
}

/**
 * Bytes that each entry of a stream needs. If experts are read one by one, the input, sums and output of all streams are in memory at once.
 */
export const streamEntryBytes = ({ model, spec }: ModelView): number => (model.store.streams && spec.router ? 20 : 8)

interface GroupStream extends Stream {
  readonly group: WindowGroup
}

async function runGroups(
  view: ModelView,
  groups: WindowGroup[],
  walk: Walk,
  visitor: StackVisitor,
  progress: (parts: number) => void,
): Promise<void> {
  const streams: GroupStream[] = []
  const last = visitor.endsBeforeOutput ? view.parts.at(-1) : undefined
  try {
    for (const group of groups) {
      const stream = { group, ...(await walk.embed(group.ids, group.batch)) }
      streams.push(stream)
      visitor.afterPart?.(group, -1, stream.residual.x)
    }
    for (const part of view.parts) {
      visitor.signal?.throwIfAborted()
      const look = {
        signal: visitor.signal,
        ...(visitor.observe ? { observe: ({ group }: GroupStream, seen: PartActivations) => visitor.observe?.(group, part, seen) } : {}),
        ...(visitor.sumNeurons
          ? { sumNeurons: ({ group }: GroupStream, sums: NeuronSums) => visitor.sumNeurons?.(group, part, sums) }
          : {}),
      }
      if (part === last) await walk.look(part, streams, look)
      else await walk.pass(part, streams, look)
      if (part !== last) for (const { group, residual } of streams) visitor.afterPart?.(group, part, residual.x)
      progress(streams.length)
      await breathe()
    }
    if (last === undefined) for (const { group, residual } of streams) await visitor.afterStack?.(group, residual.x)
  } finally {
    for (const { residual } of streams) disposeResidual(residual)
  }
}

/** Applies the final norm to the stream after the last block: [N, D]. */
export function finalHidden(view: ModelView, x: Tensor2D): Tensor2D {
  return normalize(x, view.model.vocabulary.finalNorm)
}
