import { denseMethod, isAblation, type MethodId } from './titles.ts'

/** The kinds of repair, and what people call a run that had one. */
export const repairTitles = { 'one-pass': 'repaired in one pass', 'in-order': 'repaired in order' } as const

/** Windows that a repair is fitted on unless others are asked for. */
export const defaultRepairWindows = 64

/** The text that a repair is fitted on unless another is asked for: the mixed one; the bundled model knows no other than its own. */
export function usualRepairText(calibration: string | undefined): string {
  return calibration !== undefined && /[\\/]sample-model[\\/]/.test(calibration) ? calibration : 'mixed'
}

/** Whether what a method leaves can be repaired: SliceGPT's stream has another basis, a study has no plan. */
export function isRepairable(method: string): boolean {
  return method !== denseMethod && method !== ('slicegpt' satisfies MethodId) && !isAblation(method)
}
