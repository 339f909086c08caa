import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import { heldOutKinds, heldOutWindows, mostGrowth, ownTextKind, type RecoveryPoint } from '#contract/pruning/recovery.ts'
import type { KindFilter } from '#engine/data/source.ts'
import { spread, type Windows } from '#engine/data/windows.ts'

/** Windows of one kind of text that is never trained on. */
export interface HeldOutKind {
  readonly kind: string
  readonly windows: Windows
}

/** Whether a recovery may train on documents of this kind. */
export const isTrained = (kind: string): boolean => !(heldOutKinds as readonly string[]).includes(kind)

/** Draws the held-out windows of an own text. A fixed seed, so that all runs of an experiment hold out the same. */
const ownSeed = 1

/**
 * Reads the windows that decide which weights are kept. They are spread evenly over each kind's part of the bundled mixed text, because
 * windows of one document are similar. If the training text has a split text of the person's own, some of its windows decide too.
 */
export async function readHeldOut(
  text: DataRequest,
  read: (data: DataRequest, seed: number, accepts?: KindFilter) => Promise<{ readonly windows: Windows }>,
): Promise<HeldOutKind[]> {
  const { sequenceLength } = text
  const found: HeldOutKind[] = []
  for (const kind of heldOutKinds) {
    const { windows } = await read({ source: 'mixed', sequenceLength }, 0, (own) => own === kind)
    found.push({ kind, windows: spread(windows, heldOutWindows) })
  }
  const own = ownPartOf(text)
  if (own) {
    // At most a quarter of a short text, so that most of it is trained on. A part has at least four windows.
    const { windows } = await read({ ...own, sequenceLength, windows: 4 * heldOutWindows }, ownSeed)
    found.push({ kind: ownTextKind, windows: windows.slice(0, windows.length / 4) })
  }
  return found
}

/** The part of a training text that is a split text of the person's own. */
export function ownPartOf({ source, split, mix = [] }: DataRequest): Pick<DataRequest, 'source' | 'split'> | undefined {
  const own = [{ source, split }, ...mix].find((part) => part.split)
  return own && { source: own.source, split: own.split }
}

/** Above this ratio to its best divergence, held-out text is clearly worse. */
const clearlyWorse = 1.1
/** Training ends once held-out text was clearly worse for this share of the planned tokens. */
const patience = 0.2

/** Returns the mean divergence over the kinds, or infinity if one kind is too far above its divergence at the start. */
export function scoreOf(start: readonly number[], now: readonly number[]): number {
  return now.every((value, kind) => value <= at(start, kind) + mostGrowth) ? meanOf(now) : Number.POSITIVE_INFINITY
}

/**
 * Whether training should end early. A high rate makes held-out results uneven, and the end of the schedule improves them. So only a
 * stretch of measurements that are all clearly worse ends training.
 */
export function endsEarly(points: readonly Pick<RecoveryPoint, 'tokens' | 'heldOut'>[], plannedTokens: number): boolean {
  const means = points.map(({ heldOut }) => meanOf(heldOut))
  const limit = clearlyWorse * Math.min(...means)
  const worse = points.slice(means.findLastIndex((value) => value <= limit) + 1)
  return worse.length > 0 && at(worse, worse.length - 1).tokens - at(worse, 0).tokens >= patience * plannedTokens
}
