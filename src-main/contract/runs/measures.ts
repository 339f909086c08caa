import { z } from 'zod'

/** Every measure, and whether lower or higher values are better. A name may continue after one of these: `numbers found in 512 tokens`. */
const betterWays = {
  perplexity: 'lower',
  'perplexity, tokens': 'lower',
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
 * One result. `name` is the measure's id (`perplexity`, `accuracy`, `parameters`, `tokens per second`, …), `dataset` the data set or task
 * (empty if there is none), `error` one standard error.
 */
export const measure = z.object({
  name: z.string(),
  dataset: z.string(),
  value: z.number(),
  unit: z.string(),
  error: z.number().optional(),
})

export type Measure = z.infer<typeof measure>
/** A result of this version: its name is declared above. */
export type TakenMeasure = Measure & { readonly name: MeasureName }
