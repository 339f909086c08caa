import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { Windows } from '#engine/data/windows.ts'
import { normalize } from '#engine/tensor/norm.ts'
import { type RotaryTables, rotaryTables } from '#engine/tensor/rotary.ts'
import { advance, type CallContext, disposeResidual, observeNeurons, type Residual, runPart } from './decoder.ts'
import type { ModelView } from './view.ts'
import type { Part } from './weights.ts'

/** Rows of activations per product: above it, larger products are no faster. */
const rowsPerCall = 2048

/** Windows of one length that go through the stack together. */
export interface WindowGroup {
  /** Their places in the list that was passed in. */
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
    const tokens = windows[indices[0] as number]?.length ?? 0
    const ids = new Int32Array(indices.length * tokens)
    indices.forEach((index, i) => {
      ids.set(windows[index] as Int32Array, i * tokens)
    })
    return { indices, ids, batch: indices.length, tokens }
  })
}

/** Rotary tables per length, made once for a walk. */
export class TableCache {
  readonly #view: ModelView
  readonly #tables = new Map<string, RotaryTables>()

  constructor(view: ModelView) {
    this.#view = view
  }

  get(tokens: number, past = 0): RotaryTables {
    const key = `${past}+${tokens}`
    let tables = this.#tables.get(key)
    if (!tables) {
      tables = rotaryTables(this.#view.spec.rotary, past, tokens)
      this.#tables.set(key, tables)
    }
    return tables
  }

  dispose(): void {
    for (const { cosine, sine } of this.#tables.values()) {
      cosine.dispose()
      sine.dispose()
    }
    this.#tables.clear()
  }
}

/** Lets timers and messages through: cancelling and heartbeats depend on it. */
export const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

export interface StackVisitor {
  /** Sees the stream after each part (and before the first, with part -1): [B*T, D], valid during the call. */
  afterPart?(group: WindowGroup, part: Part | -1, x: Tensor2D): void
  observeMlp?(group: WindowGroup, block: number, seen: { input: Tensor2D; neurons: Tensor2D; output?: Tensor2D }): void
  /** Receives the stream after the last block, before the final norm; valid during the call. */
  afterStack?(group: WindowGroup, x: Tensor2D): void | Promise<void>
  /** The neurons of the last MLP end the walk: what they feed is not computed, `afterStack` is not called. */
  readonly endsAtNeurons?: boolean
  /** Called after each group that went through the whole stack, or each part when weights are streamed. */
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/**
 * Runs windows through the block stack. Resident weights: group after group, so that little is alive at once.
 * Streamed weights: as many groups together as the workspace holds, so that each part is read once for all of them.
 * With `rows` 1 no window shares a product with another, so that its results do not depend on its company.
 */
export async function runWindows(view: ModelView, windows: Windows, visitor: StackVisitor, rows = rowsPerCall): Promise<void> {
  const groups = groupWindows(windows, rows)
  const tables = new TableCache(view)
  const bytes = Math.max(...groups.map((group) => 8 * group.ids.length * view.spec.hidden), 1)
  const together = view.model.store.streams ? Math.max(1, Math.floor(view.model.workspaceBytes / 2 / bytes)) : 1
  const total = groups.length * view.parts.length
  let done = 0
  try {
    for (let first = 0; first < groups.length; first += together) {
      await runGroups(view, groups.slice(first, first + together), tables, visitor, (parts) => {
        done += parts
        visitor.progress?.(done, total)
      })
    }
  } finally {
    tables.dispose()
  }
}

async function runGroups(
  view: ModelView,
  groups: WindowGroup[],
  tables: TableCache,
  visitor: StackVisitor,
  progress: (parts: number) => void,
): Promise<void> {
  const streams: { group: WindowGroup; residual: Residual }[] = []
  try {
    for (const group of groups) {
      const x = await view.model.vocabulary.embed(group.ids)
      streams.push({ group, residual: { x, source: x.clone() } })
      visitor.afterPart?.(group, -1, x)
    }
    for (const [position, part] of view.parts.entries()) {
      visitor.signal?.throwIfAborted()
      const weights = await view.lease(part, view.parts[position + 1] ?? view.parts[0])
      const ends = visitor.endsAtNeurons && position === view.parts.length - 1 ? weights.mlp : undefined
      for (const stream of streams) {
        const call = callFor(view, stream.group, tables, visitor)
        if (ends) {
          observeNeurons(part, ends, stream.residual, call)
          continue
        }
        const x = runPart(part, weights, stream.residual, call)
        stream.residual = advance(part, stream.residual, x, view.spec)
        visitor.afterPart?.(stream.group, part, x)
      }
      view.release(part, weights)
      progress(streams.length)
      await breathe()
    }
    if (!visitor.endsAtNeurons) for (const stream of streams) await visitor.afterStack?.(stream.group, stream.residual.x)
  } finally {
    for (const { residual } of streams) disposeResidual(residual)
  }
}

function callFor(view: ModelView, group: WindowGroup, tables: TableCache, visitor: StackVisitor): CallContext {
  const observe = visitor.observeMlp
  return {
    spec: view.spec,
    batch: group.batch,
    tokens: group.tokens,
    rotary: tables.get(group.tokens),
    ...(observe ? { observeMlp: (block, seen) => observe.call(visitor, group, block, seen) } : {}),
  }
}

/** The stream after the last block, through the final norm: [N, D]. */
export function finalHidden(view: ModelView, x: Tensor2D): Tensor2D {
  return normalize(x, view.model.vocabulary.finalNorm)
}
