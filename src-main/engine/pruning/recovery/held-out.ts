import type { DataRequest } from '#contract/data/data-request.ts'
import { heldOutKinds, heldOutWindows } from '#contract/pruning/recovery-kinds.ts'
import type { KindFilter } from '#engine/data/json-lines.ts'
import type { Windows } from '#engine/data/windows.ts'

/** Windows of one kind of text that is not trained on. */
export interface HeldOutKind {
  readonly kind: string
  readonly windows: Windows
}

/** Whether a recovery may train on this kind of document. */
export const isTrained = (kind: string): boolean => !(heldOutKinds as readonly string[]).includes(kind)

/** Reads the windows that decide which weights are taken, from the bundled mixed text. */
export async function readHeldOut(
  sequenceLength: number,
  read: (data: DataRequest, accepts: KindFilter) => Promise<{ readonly windows: Windows }>,
): Promise<HeldOutKind[]> {
  const found: HeldOutKind[] = []
  for (const kind of heldOutKinds) {
    const data = { source: 'mixed', sequenceLength, windows: heldOutWindows }
    found.push({ kind, windows: (await read(data, (own) => own === kind)).windows })
  }
  return found
}

/** A kind whose divergence grows by more than this rules weights out, whatever the others do. */
const mostGrowth = 1.02

/** Measurements that may be worse than the best one in a row before training stops. */
export const patience = 2

/** How far divergences by kind are from those at the start: their mean ratio, endless where one kind became too much worse. */
export function scoreOf(start: readonly number[], now: readonly number[]): number {
  const ratios = now.map((value, index) => value / (start[index] ?? Number.NaN))
  if (!ratios.every((ratio) => ratio <= mostGrowth)) return Number.POSITIVE_INFINITY
  return ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length
}
