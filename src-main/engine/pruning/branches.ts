import { disposeResidual } from '#engine/model/decoder.ts'
import type { Stream } from '#engine/model/walk.ts'
import { isAttention, type Part } from '#engine/model/weights.ts'

/** A stream that some variants share as far as it has come. */
export interface Branch extends Stream {
  /** Their places in the list that is scored. */
  readonly variants: readonly number[]
}

/** A stream of its own that stands where another stands. */
export function copyStream({ batch, tokens, residual }: Stream): Stream {
  return { batch, tokens, residual: { x: residual.x.clone(), source: residual.source.clone() } }
}

export function disposeStreams(streams: Iterable<Stream>): void {
  for (const { residual } of streams) disposeResidual(residual)
}

/** Divides branches in front of a part into those whose variants have it and those whose variants lack it; one that does both becomes two. */
export function divideBranches(branches: readonly Branch[], lacks: (variant: number) => boolean): { having: Branch[]; lacking: Branch[] } {
  const having: Branch[] = []
  const lacking: Branch[] = []
  for (const branch of branches) {
    const without = branch.variants.filter(lacks)
    const rest = branch.variants.filter((variant) => !lacks(variant))
    if (without.length > 0) lacking.push({ ...(rest.length > 0 ? copyStream(branch) : branch), variants: without })
    if (rest.length > 0) having.push({ ...branch, variants: rest })
  }
  return { having, lacking }
}

/** Past a removed part the stream is unchanged; past an MLP it is the next block's input. */
export function skipPart(part: Part, stream: Stream): void {
  if (isAttention(part)) return
  const { x, source } = stream.residual
  source.dispose()
  stream.residual = { x, source: x.clone() }
}
