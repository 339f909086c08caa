import { disposeResidual } from './decoder.ts'
import type { Stream } from './walk.ts'
import { isAttention, type Part } from './weights/weights.ts'

/** A copy of a stream. */
export function copyStream({ batch, tokens, residual }: Stream): Stream {
  return { batch, tokens, residual: { x: residual.x.clone(), source: residual.source.clone() } }
}

export function disposeStreams(streams: Iterable<Stream>): void {
  for (const { residual } of streams) disposeResidual(residual)
}

/** A removed part leaves the stream unchanged. After an MLP, the stream is the next block's input. */
export function skipPart(part: Part, stream: Stream): void {
  if (isAttention(part)) return
  const { x, source } = stream.residual
  source.dispose()
  stream.residual = { x, source: x.clone() }
}
