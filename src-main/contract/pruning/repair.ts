import { z } from 'zod'
import type { DataRequest } from '../data/data-request.ts'
import { usedData } from '../data/used-data.ts'
import { replaceable } from './plan.ts'

/**
 * `one-pass` fits all projections to a single pass of the dense model. `in-order` goes through the model block by block, and fits each
 * projection on the model as repaired so far.
 */
export const repairKind = z.enum(['one-pass', 'in-order'])

/**
 * One projection of a repaired plan: the ridge as a share of the mean diagonal of its Gram matrix, and the squared error on held-out
 * windows relative to the target outputs, before and after. If the error did not fall, the old weights are kept. For a mixture, the errors
 * are of all experts together, and the ridge is the most frequent one. `experts` counts those that were replaced, those with enough tokens
 * to be fitted, and all.
 */
const repairedProjection = z.object({
  block: z.number().int().nonnegative(),
  projection: replaceable,
  ridge: z.number(),
  before: z.number(),
  after: z.number(),
  experts: z.object({ replaced: z.number().int(), fitted: z.number().int(), all: z.number().int() }).optional(),
})

/** A repair's record: the text it was fitted on, its duration, and every projection it considered. */
export const repair = z.object({
  kind: repairKind,
  windows: z.number().int().positive(),
  seconds: z.number(),
  calibration: usedData,
  blocks: z.array(repairedProjection),
})

export type RepairKind = z.infer<typeof repairKind>
export type RepairedProjection = z.infer<typeof repairedProjection>
export type Repair = z.infer<typeof repair>

/** What a repaired run is called, by the kind of its repair. */
export const repairTitles = { 'one-pass': 'repaired in one pass', 'in-order': 'repaired block by block' } as const

/** The default number of windows that a repair is fitted on. */
export const defaultRepairWindows = 96

/** A repair fits on some windows and judges the fit on the others. */
export const fewestRepairWindows = 2

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
