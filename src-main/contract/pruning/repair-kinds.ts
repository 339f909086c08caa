import type { DataRequest } from '../data/data-request.ts'
import { denseMethod, isAblation, type MethodId } from '../titles.ts'

/** The kinds of repair, and what people call a run that had one. */
export const repairTitles = { 'one-pass': 'repaired in one pass', 'in-order': 'repaired in order' } as const

/** Windows that a repair is fitted on unless others are asked for. */
export const defaultRepairWindows = 96

/** Of those windows, the share of the mixed text; the rest is the method's own calibration text. */
const mixedShare = 0.25
const mixedText = 'mixed'

/**
 * What a repair is fitted on unless another text is asked for: the calibration text and, so that other kinds of text are not forgotten, the
 * mixed one. The bundled model knows no other text than its own.
 */
export function usualRepairData(calibration: DataRequest): DataRequest {
  const { source, sequenceLength, mix } = calibration
  const given = mix ?? [{ source, share: 1 }]
  const isWhole = source === mixedText || given.some((part) => part.source === mixedText) || /[\\/]sample-model[\\/]/.test(source)
  if (isWhole) return { ...calibration, windows: defaultRepairWindows }
  const sum = given.reduce((all, { share }) => all + share, 0)
  const parts = given.map((part) => ({ source: part.source, share: ((1 - mixedShare) * part.share) / sum }))
  return mixOf([...parts, { source: mixedText, share: mixedShare }], { sequenceLength, windows: defaultRepairWindows })
}

/** Several texts with shares, named as the command line writes them: `a.txt:0.75,mixed:0.25`. */
export function mixOf(mix: NonNullable<DataRequest['mix']>, rest: Pick<DataRequest, 'sequenceLength' | 'windows'>): DataRequest {
  return { source: mix.map(({ source, share }) => `${source}:${Number(share.toFixed(4))}`).join(','), mix, ...rest }
}

/** Whether what a method leaves can be repaired: SliceGPT's stream has another basis, a study has no plan. */
export function isRepairable(method: string): boolean {
  return method !== denseMethod && method !== ('slicegpt' satisfies MethodId) && !isAblation(method)
}
