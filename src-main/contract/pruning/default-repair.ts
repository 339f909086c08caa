import type { DataRequest } from '../data/data-request.ts'

/** What a repaired run is called, by the kind of its repair. */
export const repairTitles = { 'one-pass': 'repaired in one pass', 'in-order': 'repaired block by block' } as const

/** The default number of windows that a repair is fitted on. */
export const defaultRepairWindows = 96

/** The share of these windows that comes from the mixed text. The others come from the method's calibration text. */
const mixedShare = 0.25
const mixedText = 'mixed'

/**
 * Returns the default text of a repair: the calibration text and the mixed text. Without the mixed text, a repaired model gets worse on
 * other kinds of text. The bundled model never learnt these, so it gets its calibration text only.
 */
export function defaultRepairData(calibration: DataRequest): DataRequest {
  const { source, sequenceLength, mix, split } = calibration
  const texts = mix ?? [{ source, share: 1, ...(split ? { split } : {}) }]
  if (!needsMixedText(calibration)) return { ...calibration, windows: defaultRepairWindows }
  const sum = texts.reduce((all, { share }) => all + share, 0)
  const parts = texts.map((part) => ({ ...part, share: ((1 - mixedShare) * part.share) / sum }))
  return mixOf([...parts, { source: mixedText, share: mixedShare }], { sequenceLength, windows: defaultRepairWindows })
}

/** Whether the mixed text should be added. It should not if the data contains it already, or if the data is the bundled model's own. */
export function needsMixedText({ source, mix = [] }: DataRequest): boolean {
  return source !== mixedText && mix.every((part) => part.source !== mixedText) && !/[\\/]sample-model[\\/]/.test(source)
}

/** Makes a request for several texts with shares. Its source is written as on the command line: `a.txt:0.75,mixed:0.25`. */
export function mixOf(mix: NonNullable<DataRequest['mix']>, rest: Pick<DataRequest, 'sequenceLength' | 'windows'>): DataRequest {
  return { source: mix.map(({ source, share }) => `${source}:${Number(share.toFixed(4))}`).join(','), mix, ...rest }
}
