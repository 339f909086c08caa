import { z } from 'zod'

/** Every measure, and whether lower or higher values are better. A name may continue after one of these: `numbers found in 512 tokens`. */
const betterWays = {
  perplexity: 'lower',
  'perplexity, tokens': 'lower',
  'bits per byte': 'lower',
  accuracy: 'higher',
  'accuracy per character': 'higher',
  'exact match': 'higher',
  'exact match, last number': 'higher',
  'prompts followed': 'higher',
  'prompts followed, loosely': 'higher',
  'instructions followed': 'higher',
  'instructions followed, loosely': 'higher',
  'numbers found': 'higher',
  'looping answers': 'lower',
  'distinct trigrams': 'higher',
  'repeated ending': 'lower',
  'inference time': 'lower',
  'time to first token': 'lower',
  'tokens per second': 'higher',
  'speed-up': 'higher',
  'load by others': 'lower',
  memory: 'lower',
  'KV cache per token': 'lower',
  parameters: 'lower',
  size: 'lower',
  'pruning time': 'lower',
} as const satisfies Record<string, 'lower' | 'higher'>

type DeclaredName = keyof typeof betterWays
export type MeasureName = DeclaredName | `${DeclaredName} ${string}`

/** Whether lower values are better. True for names that are not declared here, such as those of some imported runs. */
export function isLowerBetter(name: string): boolean {
  const declared = Object.entries(betterWays).find(([one]) => name === one || name.startsWith(`${one} `))
  return declared?.[1] !== 'higher'
}

/**
 * What a measure was taken on. `comparison/comparable.ts` compares numbers only if these agree. `hash` is the SHA-256 of what the model
 * read: token ids as in `usedData`, the ids of prompts, or questions; `count` is how many windows, prompts or questions there were, each of
 * `sequenceLength` tokens (the longest, if they differ).
 */
const measuredOn = z.object({
  hash: z.string(),
  count: z.number().int().positive(),
  sequenceLength: z.number().int().positive().optional(),
  beginToken: z.boolean().optional(),
  /** SHA-256 of the first bytes of the text that the windows cover. It is the same for every tokenizer. */
  text: z.string().optional(),
  /** UTF-8 bytes of the text that the predicted tokens cover. */
  bytes: z.number().int().nonnegative().optional(),
  /** SHA-256 of the kept rows' ids, if the plan removed rows of the vocabulary and the measure is a mean over tokens. */
  vocabulary: z.string().optional(),
  /** Absent if the numbers are as exact as float32's. */
  precision: z.literal('bfloat16').optional(),
})

/** The parts of a measure that statistics need. They are long, so rows of the history leave them out unless asked for. */
export const measureDetails = z.object({
  /** The mean loss of each window in nats per predicted token, in the windows' order. The logarithm of a perplexity is their mean. */
  losses: z.array(z.number()).optional(),
  /** The number of predicted tokens of each window, if they differ. Losses are weighted by them. */
  predicted: z.array(z.number().int().positive()).optional(),
  /** One digit for each answer in order: 1 if it counts, such as a right answer or one that loops. */
  hits: z
    .string()
    .regex(/^[01]*$/)
    .optional(),
})

/**
 * One result. `name` is the measure's id (`perplexity`, `accuracy`, `parameters`, `tokens per second`, …), `dataset` the data set or task
 * (empty if there is none), `error` one standard error.
 */
export const measure = z.object({
  name: z.string(),
  dataset: z.string(),
  value: z.number(),
  unit: z.string(),
  error: z.number().optional(),
  on: measuredOn.optional(),
  ...measureDetails.shape,
})

export type MeasuredOn = z.infer<typeof measuredOn>
export type MeasureDetails = z.infer<typeof measureDetails>
export type Measure = z.infer<typeof measure>
/** A result of this version: its name is declared above. */
export type TakenMeasure = Measure & { readonly name: MeasureName }

/** Label of the seconds that other runs spent on steps that this run reused. */
export const sharedPhase = 'done by other runs'

/** The measure that holds the cost of pruning. */
export const pruningTime = 'pruning time'

/** Returns the full cost of pruning: the run's own seconds plus those of the steps that it reused. */
export function pruningSeconds(seconds: Readonly<Record<string, number>>): number | null {
  const { pruning, [sharedPhase]: shared = 0 } = seconds
  return pruning === undefined ? null : pruning + shared
}
