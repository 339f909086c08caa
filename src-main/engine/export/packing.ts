import type { BlockLayout, DecoderSpec } from '#engine/architectures/spec.ts'

/** One block of a written model: which blocks of the dense model its attention and its MLP come from; undefined where it has none. */
export interface PackedBlock {
  readonly attention: number | undefined
  readonly mlp: number | undefined
  /** Where nothing of a block is left that keeps its place: that place. */
  readonly place?: number
}

/**
 * The blocks that a model needs for the parts that `left` describes: parts run in the same order as before, and an attention whose MLP
 * is gone shares a block with the next MLP whose attention is gone. Exact where each submodule adds to the stream by itself; with a
 * parallel residual both halves of a block read the same stream, so there only blocks of which nothing is left go.
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

/** Blocks of the dense model whose attention or MLP a list of packed blocks lacks, as it writes one in its place. */
export function missingParts(packed: readonly PackedBlock[]): { attention: number[]; mlp: number[] } {
  const positions = [...packed.keys()]
  return {
    attention: positions.filter((position) => packed[position]?.attention === undefined),
    mlp: positions.filter((position) => packed[position]?.mlp === undefined),
  }
}

/** The block of the dense model that a packed one is described by where the config says something of each: its attention's, else its MLP's. */
export function sourceOf({ attention, mlp, place }: PackedBlock): number {
  return attention ?? mlp ?? place ?? 0
}

/** `block 3`, or `blocks 3, 4`. */
export function blocksText(positions: readonly number[]): string {
  return `block${positions.length === 1 ? '' : 's'} ${positions.join(', ')}`
}
