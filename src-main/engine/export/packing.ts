import type { BlockLayout, DecoderSpec } from '#engine/architectures/spec.ts'
import { withoutCode } from './companions.ts'

/**
 * A config for the written blocks, without entries that run the source's code. If blocks were removed, lists with an entry per block are
 * written out, and the index of the first block with a window is adjusted.
 */
export function packedConfig(spec: DecoderSpec, config: Record<string, unknown>, packed: readonly PackedBlock[]): Record<string, unknown> {
  // The format vllm-experts lists the constants of the written model itself.
  const { approximate_experts: _, ...rest } = config
  const firstWindow = rest.max_window_layers
  const moved = packed.length < spec.blocks.length || packed.some((block, position) => sourceOf(block) !== position)
  const lists = Object.entries(spec.perBlock ?? {}).filter(([key]) => moved || config[key] !== undefined)
  return {
    ...withoutCode(rest),
    ...Object.fromEntries(lists.map(([key, list]) => [key, packed.map((block) => list[sourceOf(block)])])),
    ...(typeof firstWindow === 'number' ? { max_window_layers: packed.filter((block) => sourceOf(block) < firstWindow).length } : {}),
  }
}

/**
 * One block of a written model. `attention` and `mlp` are the blocks of the dense model that these come from; undefined if the part is
 * missing.
 */
export interface PackedBlock {
  readonly attention: number | undefined
  readonly mlp: number | undefined
  /** The index of a block that keeps its position although both of its parts were removed. */
  readonly place?: number
}

/**
 * The blocks that a written model needs for the parts in `left`. Parts keep their order, and an attention submodule that lost its MLP
 * shares a block with the next MLP that lost its attention. The result is exact if submodules run one after another. With a parallel
 * residual, both submodules of a block read the same stream, so only completely removed blocks are left out.
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

/** Positions of written blocks whose attention or MLP is missing, so that it is written as zeros. */
export function missingParts(packed: readonly PackedBlock[]): { attention: number[]; mlp: number[] } {
  const positions = [...packed.keys()]
  return {
    attention: positions.filter((position) => packed[position]?.attention === undefined),
    mlp: positions.filter((position) => packed[position]?.mlp === undefined),
  }
}

/**
 * The block of the dense model whose entries in per-block config lists describe a written block: that of its attention, else that of its
 * MLP.
 */
export function sourceOf({ attention, mlp, place }: PackedBlock): number {
  return attention ?? mlp ?? place ?? 0
}

/** `block 3`, or `blocks 3, 4`. */
export function blocksText(positions: readonly number[]): string {
  return `block${positions.length === 1 ? '' : 's'} ${positions.join(', ')}`
}
