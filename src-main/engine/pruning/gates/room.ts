import { EspalierError } from '#contract/errors.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { logitsPerTile } from '#engine/model/parts/head/token-losses.ts'
import { mostRows as mostRowsPerTile } from '#engine/model/parts/head/training-loss.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { partShapes, presentParts } from '#engine/model/weights/weights.ts'
import { keptPerRow, mostRows } from '../recovery/recovery-budget.ts'

export interface GateRoom {
  /** How many windows go through the model at once. */
  readonly together: number
  /** Whether the forward pass keeps what the backward pass needs. If not, it is computed again. */
  readonly keeps: boolean
  /** Bytes for that, in addition to weights, embedding and head. */
  readonly bytes: number
}

/** Matrices per tile: the logits of both models, their softmax, the difference and its scaled copy. */
const tiles = 6

/**
 * Decides how passes with gates use the memory that weights leave. As many windows as possible of a step go through the model at once. If
 * not even one fits with what its backward pass needs, that is computed again, part by part. Throws `out-of-memory` if one window does not
 * fit that way either.
 */
export function gateRoom({ spec, model }: Pick<ModelView, 'spec' | 'model'>, tokens: number, windowsPerStep: number): GateRoom {
  const free = model.store.streams ? model.workspaceBytes : model.freeBytes - 4 * stackParameters(spec)
  const { fixed, kept, streams } = needsOf(spec, tokens)
  const most = mostTogether(spec, tokens, windowsPerStep)
  for (const keeps of [true, false]) {
    for (let together = most; together >= 1; together--) {
      const bytes = fixed + together * (keeps ? kept : streams)
      if (bytes <= free) return { together, keeps, bytes }
    }
  }
  const mebibytes = (bytes: number): string => Math.ceil(bytes / 2 ** 20).toLocaleString('en')
  throw new EspalierError(
    'out-of-memory',
    `Gates need ${mebibytes(fixed + streams)} MiB for one window of ${tokens} tokens, but only ${mebibytes(Math.max(0, free))} MiB are free besides the weights. Give more memory, or use shorter windows.`,
  )
}

const mostTogether = (spec: DecoderSpec, tokens: number, windowsPerStep: number): number =>
  Math.max(1, Math.min(windowsPerStep, Math.floor(mostRows(spec) / tokens)))

/** Bytes that a step takes besides weights, embedding and head, if all that it can use is free. */
export function gateBytes(spec: DecoderSpec, tokens: number, windowsPerStep: number): number {
  const { fixed, kept } = needsOf(spec, tokens)
  return fixed + mostTogether(spec, tokens, windowsPerStep) * kept
}

function needsOf(spec: DecoderSpec, tokens: number): { readonly fixed: number; readonly kept: number; readonly streams: number } {
  const rows = spec.blocks.map((_, block) => keptPerRow(spec, block))
  const largest = Math.max(...rows)
  const entries = spec.vocabulary * spec.hidden
  // The head exists in 16 bits twice: for logits and for gradients. One part is packed at a time, also twice.
  const part = Math.max(...presentParts(spec).map((one) => sizeOf(Object.values(partShapes(spec, one)))))
  const tile = Math.min(logitsPerTile, spec.vocabulary * Math.min(mostRowsPerTile, tokens))
  const fixed = 4 * (entries + part + tiles * tile)
  const perToken = (numbers: number) => 4 * tokens * (numbers + 2 * largest + 2 * spec.hidden)
  return { fixed, kept: perToken(rows.reduce((sum, own) => sum + own, 0)), streams: perToken(4 * spec.hidden * spec.blocks.length) }
}

const sizeOf = (shapes: readonly (readonly number[])[]): number =>
  shapes.reduce((sum, shape) => sum + shape.reduce((size, length) => size * length, 1), 0)
