import type { StackPart } from '#contract/models/models.ts'
import type { DecoderSpec, Projection } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'

/**
 * Parts of a block that are present but add nothing, because their last projection is all zeros, as in formats that cannot leave them out.
 * Each weight is read at most once, `mostValues` at a time, and only up to its first value that is not zero.
 */
export async function zeroedParts(checkpoint: Checkpoint, spec: DecoderSpec, block: number, signal?: AbortSignal): Promise<StackPart[]> {
  const { attention, width } = spec.blocks[block] ?? { attention: false, width: 0 }
  const { output, down } = spec.block(block)
  const zeroed: StackPart[] = []
  if (attention && (await isZero(checkpoint, output, signal))) zeroed.push('attention')
  if (width > 0 && down && (await isZero(checkpoint, down, signal))) zeroed.push('mlp')
  return zeroed
}

/** Rows with more values than this are not checked (no model is that wide). Also the most values read at once. */
const mostValues = 2 ** 18
const zeros = new Uint8Array(4 * mostValues)

async function isZero(
  checkpoint: Checkpoint,
  { weight, bias, firstRow, rows, columns }: Projection,
  signal?: AbortSignal,
): Promise<boolean> {
  if (columns > mostValues) return false
  for (let done = 0, count = 1; done < rows; done += count) {
    signal?.throwIfAborted()
    // For most weights, one row is enough to find a value that is not zero.
    count = done === 0 ? 1 : Math.min(Math.max(1, Math.floor(mostValues / columns)), rows - done)
    if (!(await allZero(checkpoint, weight, { first: firstRow + done, count }))) return false
  }
  return bias === undefined || allZero(checkpoint, bias, { first: firstRow, count: rows })
}

async function allZero(checkpoint: Checkpoint, name: string, rows: { first: number; count: number }): Promise<boolean> {
  const values = await checkpoint.readFloat32(name, rows)
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  // Comparing bytes is much faster. -0 has other bytes than 0.
  return Buffer.compare(bytes, zeros.subarray(0, bytes.length)) === 0 || values.every((value) => value === 0)
}
