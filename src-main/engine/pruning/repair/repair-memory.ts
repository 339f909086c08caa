import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RepairKind } from '#contract/pruning/repair.ts'
import { algebra } from '#engine/algebra/openblas.ts'
import { doubleUpTo, ownAlgebra } from '#engine/algebra/own.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import { type MethodPhase, stackPasses, watched } from '#engine/pruning/method.ts'
import { sampledOutputs } from './normal-equations.ts'

/**
 * Returns how many float64 numbers the equations of one projection take at their peak. The sums of its inputs with themselves [inputs,
 * inputs] and with its outputs [outputs, inputs] exist twice: for the windows that are fitted and for the held-out ones. Without OpenBLAS, a
 * factor is a third matrix of inputs. A solve adds both changes of the weights, and a product or a sample.
 */
function equationNumbers(inputs: number, outputs: number): number {
  const [gram, cross] = [inputs ** 2, inputs * outputs]
  return (algebra() === ownAlgebra ? 3 : 2) * gram + 5 * cross
}

interface RepairRoom {
  /**
   * Bytes for the streams of all windows and the equations of one projection; in a mixture also for the new projections of one block, and
   * the inputs of one projection if they are kept.
   */
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
  if (streamBytes <= free) {
    const keptBytes = 4 * tokens * columns * inputStreams
    const forInputs = streamBytes + keptBytes <= free
    return { bytes: streamBytes + equationBytes + (forInputs ? keptBytes : 0), forInputs, inputBytes: free - streamBytes }
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

/** Time of a sum in float32, as wide equations use it, relative to one in float64. */
const inFloat32 = 0.6
/** Ridges that are mostly tried for a projection. */
const tried = 3

/**
 * Returns the float64 operations for a projection's equations: its inputs and outputs are summed over the rows, then a ridge is chosen on a
 * sample of the outputs and fitted on all windows. An expert is fitted and judged without the held-out ones too (`judges`).
 */
export function equationOperations(rows: number, inner: number, outer: number, judges = false): number {
  const summing = rows * inner * (inner + 4 * outer) * (Math.min(inner, outer) <= doubleUpTo ? 1 : inFloat32)
  const product = (outputs: number) => 2 * inner ** 2 * outputs
  const sample = outer / Math.max(1, Math.floor(outer / sampledOutputs))
  const choosing = tried * (factoring(inner) + 2 * product(sample))
  const fitting = factoring(inner) + product(outer)
  return summing + choosing + fitting + (judges ? fitting + product(outer) : 0)
}

/** Operations of a Cholesky factor. */
export const factoring = (size: number): number => size ** 3 / 3

export const repairing = 'Repairing'

/**
 * Returns the work of a repair. For `one-pass`, the windows run through the dense model once. For `in-order`, they also run through the
 * repaired model, and attention is fitted as well. A pruned mixture runs once more, and several times if memory holds the inputs of only
 * some experts.
 * @param left the shares of MLP neurons, of attention submodules and of experts that the plan leaves
 */
export function repairPhase(
  spec: DecoderSpec,
  kind: RepairKind,
  windows: number,
  left: { readonly neurons: number; readonly attention: number; readonly experts: number },
): MethodPhase {
  const blocks = spec.blocks.length
  const inOrder = kind === 'in-order'
  const times = (inOrder ? 2 : 1) * watched
  const { mlp, ...others } = stackPasses(blocks, times * windows)
  const passes = { ...others, mlp: spec.router ? 2 * mlp : mlp }
  const kept = Math.round(left.neurons * Math.max(...spec.blocks.map((_, block) => layoutOf(spec, block).width)))
  const attentionProjections = inOrder ? left.attention * blocks : (1 - left.attention) * blocks
  const operations = (tokens: number) => {
    const rows = windows * tokens * (inOrder ? 2 : 1)
    const experts = Math.max(1, ...spec.blocks.map(({ experts = 1 }) => Math.round(left.experts * experts)))
    const rowsOfOne = (rows * Math.min(experts, spec.router?.chosen ?? 1)) / experts
    return (
      blocks * experts * equationOperations(rowsOfOne, kept, spec.hidden, spec.router !== undefined) +
      attentionProjections * equationOperations(rows, spec.heads * spec.headSize, spec.hidden)
    )
  }
  return { phase: repairing, passes, equationOperations: operations }
}
