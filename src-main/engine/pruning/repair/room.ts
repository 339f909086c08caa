import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RepairKind } from '#contract/pruning/repair.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { sideBySide } from './choose-ridge.ts'

/**
 * Numbers in float64 that the equations of one projection take, of K inputs and D outputs: sums of both kinds of windows, and for each ridge
 * tried side by side its system, the factor and a copy that the runtime makes; later the factor and the right sides before, during and
 * after a solve.
 */
function numbersOf(inputs: number, outputs: number): number {
  const [square, sides, tried] = [inputs ** 2, inputs * outputs, sideBySide]
  return 2 * (square + sides) + Math.max(3 * tried * square, tried * square + (1 + 3 * tried) * sides)
}

export interface RepairRoom {
  /** What the streams of the windows and one projection's equations take. */
  readonly bytes: number
  /** Whether the inputs of a projection on all windows fit as well. */
  readonly forInputs: boolean
  readonly inputBytes: number
}

/**
 * What a repair on so many windows, of so many tokens in all, leaves of the memory for activations. Throws `out-of-memory` if the streams of
 * the windows and one projection's equations exceed it.
 */
export function repairRoom(
  workspaceBytes: number,
  spec: DecoderSpec,
  plan: Plan,
  { windows, tokens }: { readonly windows: number; readonly tokens: number },
  kind: RepairKind,
): RepairRoom {
  // Before and after a segment, and in order also the pruned model's. A parallel MLP reads its own stream. A mixture needs its input and
  // what is missing.
  const streams = (kind === 'in-order' ? 3 : 2) * (spec.parallelResidual ? 2 : 1) + (spec.router ? (kind === 'in-order' ? 4 : 2) : 0)
  const streamBytes = 4 * tokens * spec.hidden * streams
  const columns = widest(spec, plan, kind)
  const equationBytes = 8 * numbersOf(columns, spec.hidden) + 4 * spec.hidden * mostSolved(spec, plan)
  const free = workspaceBytes - equationBytes
  const inputs = kind === 'in-order' ? 2 : 1
  if (streamBytes <= free)
    return {
      bytes: streamBytes + equationBytes,
      forInputs: streamBytes + 4 * tokens * columns * inputs <= free,
      inputBytes: free - streamBytes,
    }
  const mebibytes = (bytes: number) => Math.ceil(bytes / 2 ** 20)
  const most = Math.floor((Math.max(0, free) / streamBytes) * windows)
  const advice = most >= 2 ? `Use at most ${most} windows, or give more memory` : 'Give more memory'
  throw new EspalierError(
    'out-of-memory',
    `Repair with ${windows} windows takes ${mebibytes(streamBytes)} MiB for their streams and ${mebibytes(equationBytes)} MiB for ${spec.router ? 'the projections of one block' : 'one projection'}; ${mebibytes(workspaceBytes)} MiB are free for both. ${advice}.`,
  )
}

/** The most columns of new down projections that a block's experts have together. They are written when all are solved. */
function mostSolved({ blocks }: DecoderSpec, { blocks: planned }: Plan): number {
  const columns = planned.map(({ mlp }, block) => {
    const { experts, width } = at(blocks, block)
    if (mlp === 'removed' || experts === undefined) return 0
    return (mlp.experts?.length ?? experts) * (mlp.keptByExpert?.[0]?.length ?? width)
  })
  return Math.max(0, ...columns)
}

/** The most columns of a projection that is repaired. */
function widest({ blocks, heads, headSize }: DecoderSpec, plan: Plan, kind: RepairKind): number {
  const widths = plan.blocks.map(({ mlp }, block) =>
    mlp === 'removed' ? 0 : mlp.kept === 'all' ? at(blocks, block).width : mlp.kept.length,
  )
  return Math.max(kind === 'in-order' || plan.blocks.some(({ mlp }) => mlp === 'removed') ? heads * headSize : 0, ...widths)
}
