import { z } from 'zod'
import { weightText } from '../../titles.ts'
import { upperFirst } from '../../words.ts'
import { fileSizeText } from '../amount-text.ts'
import { sharedPhase } from '../measures.ts'
import { beginLabel } from '../step-names.ts'

/**
 * Progress of a phase: `done` of `total` in `unit`. `perSecond` is the rate over the last `ratedFor` seconds, `secondsLeft` the remaining
 * time at that rate.
 */
export const progress = z.object({
  phase: z.string(),
  done: z.number(),
  total: z.number(),
  unit: z.string(),
  perSecond: z.number().optional(),
  ratedFor: z.number().optional(),
  secondsLeft: z.number().optional(),
})

export type Progress = z.infer<typeof progress>

/**
 * The part of a run that reads the model. Its rate is not applied to later parts, because it says nothing of how fast the machine computes.
 */
export const openPart = 'open'

/** Phases that are named in estimates too. */
export const readingModel = 'Reading the model'
export const writingFile = (type: string): string => `Writing the file in ${weightText(type)}`
export const writingDense = 'Writing the unpruned file'
/** To meet a speed, files of several sizes are timed before a method runs, and its result afterwards. */
export type TimingStep = 'samples' | 'result'
export const writingTimed: Readonly<Record<TimingStep, string>> = {
  samples: 'Writing files of several sizes',
  result: 'Writing the pruned file',
}
export const timingFiles: Readonly<Record<TimingStep, string>> = {
  samples: 'Timing files of several sizes',
  result: 'Timing the pruned file',
}
/** The name of all of it in the seconds of a finished run. Those of its pruning include them. */
export const timingPart = 'timing files'

/** The titles of the parts that the seconds of a finished run are divided into. */
export const partTitles = {
  [openPart]: readingModel,
  [beginLabel]: 'Measuring the begin token',
  'reading text': 'Reading text',
  vocabulary: 'Choosing rows of the vocabulary',
  pruning: 'Pruning',
  [timingPart]: 'Timing files to meet the speed',
  repair: 'Repair',
  recovery: 'Recovery',
  'weighing columns': 'Measuring importances',
  'choosing types': 'Choosing weight types',
  quantising: 'Writing the file',
  'writing the dense file': writingDense,
  perplexity: 'Perplexity',
  tasks: 'Tasks',
  inference: 'Speed',
  repetition: 'Answers that loop',
  'long context': 'Long context',
  answers: 'Answers to prompts',
  study: 'Ablation',
  divergence: 'Comparing with the unpruned model',
  generation: 'Answers to prompts',
  [sharedPhase]: 'Pruning, done by other runs',
} as const

export type RunPart = Exclude<keyof typeof partTitles, typeof sharedPhase>

/** The title of a part of a finished run. Earlier versions may have stored parts that this one does not know. */
export const partTitle = (part: string): string =>
  Object.hasOwn(partTitles, part) ? partTitles[part as keyof typeof partTitles] : upperFirst(part)

/** Writes how much of a phase is done and how much there is: `12` and `30`, or bytes with their units. */
export function progressAmounts({ done, total, unit }: Pick<Progress, 'done' | 'total' | 'unit'>): [string, string] {
  return unit === 'bytes' ? [fileSizeText(done), fileSizeText(total)] : [`${Math.round(done)}`, `${total}`]
}

/** Returns the share of a phase that is done. Null if there is no progress, or if the total is unknown. */
export function shareDone(progress: Pick<Progress, 'done' | 'total'> | null | undefined): number | null {
  return progress && progress.total > 0 ? progress.done / progress.total : null
}
