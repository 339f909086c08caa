import { EspalierError } from '#contract/errors.ts'
import type { AblationId } from '#contract/titles.ts'
import type { Ablation } from './ablation.ts'
import { balancing } from './balancing.ts'
import { calibrationSize } from './calibration.ts'
import { l1Norm, oneStage, rowsVersusColumns } from './variants-of-2ssp.ts'

/** Every ablation, by the name that the command line uses. */
export const ablations = {
  calibration: calibrationSize,
  one_stage: oneStage,
  rows_vs_cols: rowsVersusColumns,
  l1_norm: l1Norm,
  balancing_sparsity_ratio: balancing,
} as const satisfies Record<AblationId, Ablation>

/** Returns the ablation with this name. Throws with the list of names if there is none. */
export function findAblation(id: string): Ablation {
  if (!Object.hasOwn(ablations, id))
    throw new EspalierError('usage', `There is no ablation "${id}". Choose one of: ${Object.keys(ablations).join(', ')}.`)
  return ablations[id as AblationId]
}
