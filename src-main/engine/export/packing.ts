import type { BlockLayout, DecoderSpec } from '#engine/architectures/spec.ts'

/** One block of a written model: the blocks of the dense model that its attention and its MLP come from; undefined for a missing one. */
export interface PackedBlock {
  readonly attention: number | undefined
  readonly mlp: number | undefined
  /** The place of a block that keeps it although nothing of it is left. */
  readonly place?: number
}

/**
 * The blocks that a model needs for the parts in `left`. Parts run in the same order as before, and an attention without its MLP shares a
 * block with the next MLP without its attention. This is exact if each submodule adds to the stream by itself. With a parallel residual,
 * both halves of a block read the same stream, so only completely removed blocks are left out.
 */
export function packBlocks(spec: DecoderSpec, left: readonly BlockLayout[]): PackedBlock[] {
  const packed: { attention: number | undefined; mlp: number | undefined }[] = []
  for (const [index, { attention, width }] of left.entries()) {
    const mlp = width > 0 ? index : undefined
    const open = packed.at(-1)
    if (attention) packed.push({ attention: index, mlp })
    else if (mlp !== undefined && open && open.mlp === undefined && !spec.parallelResidual) open.mlp = mlp
    else if (mlp !== undefined) packed.push({ attention: undefined, mlp })
  }
  return packed
}

/** Blocks of the dense model whose attention or MLP is missing from packed blocks and is written as zeros. */
export function missingParts(packed: readonly PackedBlock[]): { attention: number[]; mlp: number[] } {
  const positions = [...packed.keys()]
  return {
    attention: positions.filter((position) => packed[position]?.attention === undefined),
    mlp: positions.filter((position) => packed[position]?.mlp === undefined),
  }
}

/** The dense model's block that describes a packed one in config entries per block: its attention's, else its MLP's. */
export function sourceOf({ attention, mlp, place }: PackedBlock): number {
  return attention ?? mlp ?? place ?? 0
}

/** `block 3`, or `blocks 3, 4`. */
export function blocksText(positions: readonly number[]): string {
  return `block${positions.length === 1 ? '' : 's'} ${positions.join(', ')}`
}
