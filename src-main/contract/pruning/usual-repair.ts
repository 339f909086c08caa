import type { DataRequest } from '../data/data-request.ts'

/** The kinds of repair, with titles for repaired runs. */
export const repairTitles = { 'one-pass': 'repaired at once', 'in-order': 'repaired block by block' } as const

/** Default number of windows that a repair is fitted on. */
export const defaultRepairWindows = 96

/** Share of those windows from the mixed text; the rest is the method's calibration text. */
const mixedShare = 0.25
const mixedText = 'mixed'

/**
 * Returns the default text of a repair: the calibration text, plus the mixed text so that other kinds of text are not forgotten. The
 * bundled model was trained on its own text only, so it gets no other.
 */
export function usualRepairData(calibration: DataRequest): DataRequest {
  const { source, sequenceLength, mix } = calibration
  const given = mix ?? [{ source, share: 1 }]
  if (isMixedAlready(calibration)) return { ...calibration, windows: defaultRepairWindows }
  const sum = given.reduce((all, { share }) => all + share, 0)
  const parts = given.map((part) => ({ source: part.source, share: ((1 - mixedShare) * part.share) / sum }))
  return mixOf([...parts, { source: mixedText, share: mixedShare }], { sequenceLength, windows: defaultRepairWindows })
}

/** Whether the mixed text should not be added: the data contains it already, or belongs to the bundled model, which knows no other text. */
export function isMixedAlready({ source, mix = [] }: DataRequest): boolean {
  return source === mixedText || mix.some((part) => part.source === mixedText) || /[\\/]sample-model[\\/]/.test(source)
}

/** Makes a request for several texts with shares. Its source is written as on the command line: `a.txt:0.75,mixed:0.25`. */
export function mixOf(mix: NonNullable<DataRequest['mix']>, rest: Pick<DataRequest, 'sequenceLength' | 'windows'>): DataRequest {
  return { source: mix.map(({ source, share }) => `${source}:${Number(share.toFixed(4))}`).join(','), mix, ...rest }
}
