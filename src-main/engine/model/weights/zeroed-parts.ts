import type { StackPart } from '#contract/models/models.ts'
import type { DecoderSpec, Projection } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'

/** Parts of a block that are there but add nothing, because their last projection is zeros: what a format that needs them has in their place. */
export async function zeroedParts(checkpoint: Checkpoint, spec: DecoderSpec, block: number): Promise<StackPart[]> {
  const { attention, width } = spec.blocks[block] ?? { attention: false, width: 0 }
  const { output, down } = spec.block(block)
  const zeroed: StackPart[] = []
  if (attention && (await isZero(checkpoint, output))) zeroed.push('attention')
  if (width > 0 && (await isZero(checkpoint, down))) zeroed.push('mlp')
  return zeroed
}

/** Values in a row beyond which nobody looks: no model is that wide. */
const mostColumns = 2 ** 20

/** A row is enough to know that most are not. */
async function isZero(checkpoint: Checkpoint, { weight, bias, firstRow, rows, columns }: Projection): Promise<boolean> {
  if (columns > mostColumns) return false
  if (!(await allZero(checkpoint, weight, { first: firstRow, count: 1 }))) return false
  if (bias && !(await allZero(checkpoint, bias, { first: firstRow, count: rows }))) return false
  return allZero(checkpoint, weight, { first: firstRow, count: rows })
}

async function allZero(checkpoint: Checkpoint, name: string, rows: { first: number; count: number }): Promise<boolean> {
  return (await checkpoint.readFloat32(name, rows)).every((value) => value === 0)
}
