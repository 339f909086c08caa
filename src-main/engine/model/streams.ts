import { disposeResidual } from './decoder.ts'
import type { Stream } from './walk.ts'
import { isAttention, type Part } from './weights/weights.ts'

/** Copies a stream. */
export function copyStream({ batch, tokens, residual }: Stream): Stream {
  return { batch, tokens, residual: { x: residual.x.clone(), source: residual.source.clone() } }
}

export function disposeStreams(streams: Iterable<Stream>): void {
  for (const { residual } of streams) disposeResidual(residual)
}

/** Moves a stream past a removed part, which leaves it unchanged. After an MLP, the stream becomes the next block's input. */
export function skipPart(part: Part, stream: Stream): void {
  if (isAttention(part)) return
  const { x, source } = stream.residual
  source.dispose()
  stream.residual = { x, source: x.clone() }
}
