import { at, outside } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { groupWindows, streamEntryBytes, type WindowGroup } from '#engine/model/forward.ts'
import { disposeResidual, type PartActivations } from '#engine/model/parts/part.ts'
import { type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { breathe, type Stream, Walk } from '#engine/model/walk.ts'
import { mlpOf, type Part } from '#engine/model/weights/weights.ts'

/**
 * Throws `infeasible` if removing experts does not raise the factors of the others, or if some experts are constants, which a correction
 * would not scale.
 */
export function requireRaisedGates({ router, family, blocks }: DecoderSpec): void {
  if (blocks.some(({ constants = [] }) => constants.length > 0))
    throw new EspalierError(
      'infeasible',
      'Some experts of this model are constants, which a gate correction does not scale. Choose gateCorrection=none.',
    )
  if (!router || (router.scores === 'softmax' && !router.renormalised)) return
  throw new EspalierError(
    'infeasible',
    `In a ${family} model, the factors of experts do not rise when others are removed, so there is nothing to correct. Choose gateCorrection=none.`,
  )
}

/** Sums over tokens, for a mixture's output y with all experts and its output y' with the experts that a plan leaves. */
interface Products {
  /** <y, y'>. */
  both: number
  /** <y', y'>. */
  own: number
}

interface Report {
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/**
 * Returns, for each block, the factor on the outputs of the kept experts that brings the mixture closest to the complete one: the c that
 * minimises the sum of |y - c y'|². Null for blocks that lose no experts. Both mixtures read the stream of the dense model. If the softmax
 * is over all experts and is not renormalised, the remaining experts have larger factors than before, which c corrects.
 */
export async function gateCorrections(view: ModelView, plan: Plan, windows: Windows, report: Report): Promise<(number | null)[]> {
  const pruned = viewWithPlan(view.model, plan, undefined, { passing: true })
  const { deciding } = view.model.products
  const [walk, prunedWalk] = [new Walk(view, deciding), new Walk(pruned, deciding)]
  const sums = plan.blocks.map(({ mlp }) => (mlp !== 'removed' && mlp.experts ? { both: 0, own: 0 } : null))
  const changed = new Map(sums.flatMap((own, block) => (own ? [[mlpOf(block), own] as const] : [])))
  const groups = groupWindows(windows)
  // Bytes of the streams, and of the outputs of all experts and of the kept ones.
  const bytes = Math.max(...groups.map(({ ids }) => (streamEntryBytes(view) + 8) * ids.length * view.spec.hidden))
  const groupsAtOnce = Math.max(1, Math.floor(view.model.workspaceBytes / 2 / bytes))
  try {
    for (let first = 0; first < groups.length; first += groupsAtOnce) {
      await passGroups({ view, walk, prunedWalk, changed }, groups.slice(first, first + groupsAtOnce), report)
      report.progress?.(Math.min(first + groupsAtOnce, groups.length), groups.length)
    }
  } finally {
    walk.dispose()
    prunedWalk.dispose()
    pruned.dispose()
  }
  return sums.map((own) => own && (own.both > 0 && own.own > 0 ? Math.fround(own.both / own.own) : 1))
}

interface Pair {
  readonly view: ModelView
  readonly walk: Walk
  readonly prunedWalk: Walk
  readonly changed: ReadonlyMap<Part, Products>
}

async function passGroups({ view, walk, prunedWalk, changed }: Pair, groups: readonly WindowGroup[], { signal }: Report): Promise<void> {
  const streams: Stream[] = []
  try {
    for (const { ids, batch } of groups) streams.push(await walk.embed(ids, batch))
    for (const part of view.parts) {
      signal?.throwIfAborted()
      const sums = changed.get(part)
      const [complete, remaining] = [new Map<Stream, Float32Array>(), new Map<Stream, Float32Array>()]
      if (sums) await prunedWalk.look(part, streams, { signal, observe: (stream, seen) => void addRouted(remaining, stream, seen) })
      const look = sums && {
        signal,
        observe(stream: Stream, seen: PartActivations) {
          const output = addRouted(complete, stream, seen)
          if (seen.more) return
          addProducts(sums, output, remaining.get(stream) as Float32Array)
          complete.delete(stream)
        },
      }
      await walk.pass(part, streams, look ?? { signal })
      await breathe()
    }
  } finally {
    for (const { residual } of streams) disposeResidual(residual)
  }
}

function addProducts(sums: Products, complete: Float32Array, remaining: Float32Array): void {
  for (const [index, value] of remaining.entries()) {
    sums.both += at(complete, index) * value
    sums.own += value * value
  }
}

/** Adds the outputs of the chosen experts to each token, [N, D]. Leaves out a shared expert, whose factor never changes. */
function addRouted(outputs: Map<Stream, Float32Array>, stream: Stream, { input, experts = [] }: PartActivations): Float32Array {
  const hidden = input.shape[1]
  const sum = outputs.get(stream) ?? new Float32Array(input.size)
  outputs.set(stream, sum)
  for (const { rows: own, gates, output } of experts) {
    const values = output.dataSync<'float32'>()
    for (const [place, row] of own.entries()) {
      const gate = at(gates, place)
      for (let i = 0; i < hidden; i++) {
        const to = row * hidden + i
        sum[to] = (sum[to] ?? outside(sum, to)) + gate * (values[place * hidden + i] ?? outside(values, place * hidden + i))
      }
    }
  }
  return sum
}
