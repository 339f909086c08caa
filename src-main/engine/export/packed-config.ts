import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { type PackedBlock, sourceOf } from './packing.ts'
import { withoutCode } from './without-code.ts'

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
