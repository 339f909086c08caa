import type { StackPart } from '#contract/models/models.ts'
import type { DecoderSpec, Projection } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'

/**
 * Finds parts of a block that are present but add nothing, because their last projection is all zeros. Formats that cannot leave out a part
 * store it like this. Each weight is read at most once, in pieces, and only until a value that is not zero is found.
 */
export async function zeroedParts(checkpoint: Checkpoint, spec: DecoderSpec, block: number, signal?: AbortSignal): Promise<StackPart[]> {
  const { attention, width } = spec.blocks[block] ?? { attention: false, width: 0 }
  const { output, down } = spec.block(block)
  const zeroed: StackPart[] = []
  if (attention && (await isZero(checkpoint, output, signal))) zeroed.push('attention')
  if (width > 0 && down && (await isZero(checkpoint, down, signal))) zeroed.push('mlp')
  return zeroed
}

/** The maximum number of values read at once. Weights with longer rows are not checked, but no model is that wide. */
const valuesAtOnce = 2 ** 18
const zeros = new Uint8Array(4 * valuesAtOnce)

async function isZero(
  checkpoint: Checkpoint,
  { weight, bias, firstRow, rows, columns }: Projection,
  signal?: AbortSignal,
): Promise<boolean> {
  if (columns > valuesAtOnce) return false
  for (let done = 0, count = 1; done < rows; done += count) {
    signal?.throwIfAborted()
    // For most weights, one row is enough to find a value that is not zero.
    count = done === 0 ? 1 : Math.min(Math.max(1, Math.floor(valuesAtOnce / columns)), rows - done)
    if (!(await allZero(checkpoint, weight, { first: firstRow + done, count }))) return false
  }
  return bias === undefined || allZero(checkpoint, bias, { first: firstRow, count: rows })
}

async function allZero(checkpoint: Checkpoint, name: string, rows: { first: number; count: number }): Promise<boolean> {
  const values = await checkpoint.readFloat32(name, rows)
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  // Comparing bytes is much faster than comparing values. But -0 has other bytes than 0, so values are compared too.
  return Buffer.compare(bytes, zeros.subarray(0, bytes.length)) === 0 || values.every((value) => value === 0)
}
