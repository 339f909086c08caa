import { concat, fill, keep, type Tensor1D, type Tensor3D, tidy } from '@tensorflow/tfjs-core'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { CachedPositions } from '#engine/backend/fused.ts'
import type { RotaryTables } from '#engine/tensor/rotary.ts'
import type { DeltaMemory } from './delta-net.ts'

/** Keys and values of the positions that a block has seen: [B*K, S, d] each. With fused operations S may have room for more. */
export interface SeenPositions {
  readonly key: Tensor3D
  readonly value: Tensor3D
}

/** What a block's token mixer keeps of earlier positions, sample by sample along the first dimension of each tensor. */
export type Memory = SeenPositions | DeltaMemory

/** What comes before the tokens of a call. */
export interface Past {
  /** Positions of each sample. */
  readonly length: number
  /** The same and the number of samples, as the fused operations read them. */
  readonly place: Tensor1D
  readonly cache: Map<number, Memory>
}

/** Tokens of a call, as far as a cache needs to know. */
interface CachedCall {
  readonly spec: DecoderSpec
  readonly batch: number
  readonly tokens: number
  readonly rotary: (block: number) => RotaryTables
}

/** What fused operations need to let a block's tokens follow those in a cache. There is room for them afterwards. */
export function cachedPositions(block: number, call: CachedCall, past: Past): CachedPositions {
  const { heads, keyValueHeads } = call.spec
  const { cosine, sine } = call.rotary(block)
  const window = call.spec.slidingWindow(block) ?? 0
  return { heads, keyValueHeads, window, cosine, sine, place: past.place, ...roomFor(block, call, past) }
}

/** Positions that a cache has room for at first; it doubles when it is full. */
const firstRoom = 64

function roomFor(block: number, { spec, batch, tokens }: CachedCall, { length, cache }: Past): SeenPositions {
  const seen = cache.get(block) as SeenPositions | undefined
  const capacity = seen?.key.shape[1] ?? 0
  if (seen && capacity >= length + tokens) return seen
  const wanted = Math.max(2 * capacity, Math.ceil((length + tokens) / firstRoom) * firstRoom)
  const grow = (before: Tensor3D | undefined): Tensor3D =>
    tidy(() => {
      const more: Tensor3D = fill([batch * spec.keyValueHeads, wanted - capacity, spec.headSize], 0)
      return keep(before ? concat([before, more], 1) : more)
    })
  const roomier = { key: grow(seen?.key), value: grow(seen?.value) }
  seen?.key.dispose()
  seen?.value.dispose()
  cache.set(block, roomier)
  return roomier
}
