import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RepairKind } from '#contract/pruning/repair.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { sideBySide } from './choose-ridge.ts'

/**
 * Returns how many float64 numbers the equations of one projection take at their peak, for K = `inputs` and D = `outputs`. The sums G [K,
 * K] and C [D, K] exist twice: for the windows that are fitted and for the held-out ones. To these we add the larger of two stages of a
 * solve. In the first, each ridge solved side by side holds its system, the factor and a copy that the runtime makes. In the second, each
 * holds its factor and the right-hand sides before, during and after the solve, and the old weights exist once.
 */
function equationNumbers(inputs: number, outputs: number): number {
  const [gram, cross, ridges] = [inputs ** 2, inputs * outputs, sideBySide]
  return 2 * (gram + cross) + Math.max(3 * ridges * gram, ridges * gram + (1 + 3 * ridges) * cross)
}

export interface RepairRoom {
  /** Bytes for the streams of all windows and the equations of one projection; in a mixture also for the new projections of one block. */
  readonly bytes: number
  /** Whether the inputs of one projection on all windows fit as well, so that they can be kept. */
  readonly forInputs: boolean
  /** Bytes that remain for the inputs of projections. */
  readonly inputBytes: number
}

/**
 * Returns how much of `workspaceBytes` a repair takes on `windows` windows with `tokens` tokens in total, and how much remains. Throws
 * `out-of-memory` if the streams of the windows and the equations of one projection do not fit.
 */
export function repairRoom(
  workspaceBytes: number,
  spec: DecoderSpec,
  plan: Plan,
  { windows, tokens }: { readonly windows: number; readonly tokens: number },
  kind: RepairKind,
): RepairRoom {
  // The dense model has streams before and after a segment; `in-order` repair adds those of the pruned model. Where attention and MLP run
  // in parallel, the MLP's input is a stream of its own. A mixture adds its input and what its output lacks, for each model.
  const streams = (kind === 'in-order' ? 3 : 2) * (spec.parallelResidual ? 2 : 1) + (spec.router ? (kind === 'in-order' ? 4 : 2) : 0)
  const streamBytes = 4 * tokens * spec.hidden * streams
  const columns = widest(spec, plan, kind)
  const equationBytes = 8 * equationNumbers(columns, spec.hidden) + 4 * spec.hidden * newColumns(spec, plan)
  const free = workspaceBytes - equationBytes
  const inputStreams = kind === 'in-order' ? 2 : 1
  if (streamBytes <= free)
    return {
      bytes: streamBytes + equationBytes,
      forInputs: streamBytes + 4 * tokens * columns * inputStreams <= free,
      inputBytes: free - streamBytes,
    }
  const mebibytes = (bytes: number) => Math.ceil(bytes / 2 ** 20).toLocaleString('en')
  const fitting = Math.floor((Math.max(0, free) / streamBytes) * windows)
  const advice = fitting >= 2 ? `Use at most ${fitting} windows, or give more memory` : 'Give more memory'
  throw new EspalierError(
    'out-of-memory',
    `Repair with ${windows} windows needs ${mebibytes(streamBytes)} MiB for their hidden states and ${mebibytes(equationBytes)} MiB to solve ${spec.router ? 'the projections of one block' : 'one projection'}, but only ${mebibytes(workspaceBytes)} MiB are free for both. ${advice}.`,
  )
}

/**
 * Returns the largest number of columns that the new down projections of one mixture have in total, or 0 without mixtures. All of them stay
 * in memory until the block is done.
 */
function newColumns({ blocks }: DecoderSpec, { blocks: planned }: Plan): number {
  const columns = planned.map(({ mlp }, block) => {
    const { experts, width } = at(blocks, block)
    if (mlp === 'removed' || experts === undefined) return 0
    return (mlp.experts?.length ?? experts) * (mlp.keptByExpert?.[0]?.length ?? width)
  })
  return Math.max(0, ...columns)
}

/** Returns the number of columns of the widest projection that is repaired. */
function widest({ blocks, heads, headSize }: DecoderSpec, plan: Plan, kind: RepairKind): number {
  const widths = plan.blocks.map(({ mlp }, block) =>
    mlp === 'removed' ? 0 : mlp.kept === 'all' ? at(blocks, block).width : mlp.kept.length,
  )
  return Math.max(kind === 'in-order' || plan.blocks.some(({ mlp }) => mlp === 'removed') ? heads * headSize : 0, ...widths)
}
