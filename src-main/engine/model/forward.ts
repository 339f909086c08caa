import type { Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { Windows } from '#engine/data/windows.ts'
import { normalize } from '#engine/tensor/norm.ts'
import type { Products } from '#engine/tensor/products.ts'
import { disposeResidual, type NeuronSums, type PartActivations } from './decoder.ts'
import type { ModelView } from './views/view.ts'
import { breathe, type Stream, Walk } from './walk.ts'
import type { Part } from './weights/weights.ts'

/** Rows of activations per product. Groups and branches are joined up to this number; larger products are no faster. */
export const rowsPerCall = 2048

/** Groups that pass a part together if its weights are packed for them. More would save almost nothing. */
const groupsPerPacking = 8

/** Windows of equal length that go through the stack together. */
export interface WindowGroup {
  /** Their indices in the list that was passed in. */
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
  /** Receives the stream after each part (and before the first, with part -1): [B*T, D], valid during the call. */
  afterPart?(group: WindowGroup, part: Part | -1, x: Tensor2D): void
  /** Receives what each part reads and writes, valid during the call. */
  observe?(group: WindowGroup, part: Part, seen: PartActivations): void
  /** Receives sums of the neurons of each MLP, valid during the call. */
  sumNeurons?(group: WindowGroup, part: Part, sums: NeuronSums): void
  /** Receives the stream after the last block, before the final norm; valid during the call. */
  afterStack?(group: WindowGroup, x: Tensor2D): void | Promise<void>
  /** Ends the walk at the input of the last part's last projection: its output is not computed, and `afterStack` is not called. */
  readonly endsBeforeOutput?: boolean
  /** The products of parts. Default: those of the model's passes. */
  readonly products?: Products
  /** Called after each group that passed the whole stack, or after each part if weights are streamed. */
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/**
 * Runs windows through the block stack. With resident weights, group after group, so that little is in memory at once; a few groups
 * together if weights are packed for a pass. With streamed weights, as many groups together as the workspace holds, so that each part is
 * read once for all of them. With `rows` 1 no window shares a product with another, so results do not depend on the other windows.
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

/** Bytes per entry of a stream. If experts are read one by one, the input, the sums and the output of all streams are in memory at once. */
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

/** The stream after the last block, through the final norm: [N, D]. */
export function finalHidden(view: ModelView, x: Tensor2D): Tensor2D {
  return normalize(x, view.model.vocabulary.finalNorm)
}
