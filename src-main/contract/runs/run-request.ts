import { z } from 'zod'
import { beginChoice } from '../data/begin-token.ts'
import { dataRequest } from '../data/data-request.ts'
import { inspection } from '../inspection/inspection.ts'
import { readPlace } from '../places.ts'
import { precisionName } from '../pruning/precision.ts'
import { recoveryRequest } from '../pruning/recovery.ts'
import { repairKind } from '../pruning/repair.ts'
import { backendTitles, type FormatId, formatTitles, type GgufType, ggufTypeTitles } from '../titles.ts'

/** The backends that users can choose. */
export const backendName = z.enum(Object.keys(backendTitles) as [keyof typeof backendTitles, ...(keyof typeof backendTitles)[]])

/** A type of weights in GGUF files. */
const ggufType = z.enum(Object.keys(ggufTypeTitles) as [GgufType, ...GgufType[]])

/** A type of weights, or types that are chosen for each matrix of a file of this many bytes. */
export const weightType = z.union([ggufType, z.templateLiteral(['MIXED:', z.number().int().positive().max(1e14)])])

/** The largest size of the weight files in a format. A GGUF file has the type of the run's weights, else `type`, else F16. */
export const fileBudget = z.object({
  bytes: z.number().int().positive(),
  format: z.enum(Object.keys(formatTitles) as [FormatId, ...FormatId[]]),
  type: weightType.optional(),
})

/**
 * The lowest speed in llama.cpp, on the machine that computes the run, in the type of the run's weights, else F16: tokens generated per
 * second, or milliseconds to the first token after a prompt.
 */
export const speedBudget = z.union([
  z.object({ tokensPerSecond: z.number().positive() }),
  z.object({ milliseconds: z.number().positive(), prompt: z.number().int().positive() }),
])

/**
 * How much to remove: a share of the block stack's parameters, the equivalent of a number of blocks (the reference's `--num_prune`), a
 * share of the experts (REAP), or as much as it takes to meet a budget.
 */
export const amount = z.union([
  z.object({ sparsity: z.number().min(0).max(1) }),
  z.object({ blocks: z.number().int().nonnegative() }),
  z.object({ experts: z.number().positive().max(1) }),
  fileBudget,
  ...speedBudget.options,
])

export const measureRequest = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('perplexity'), data: dataRequest, name: z.string() }),
  z.object({
    kind: z.literal('tasks'),
    tasks: z.array(z.string()),
    folder: readPlace.optional(),
    limit: z.number().int().positive().optional(),
    /** Uses the model's chat template for tasks whose answers the model writes. */
    chat: z.boolean().optional(),
  }),
  z.object({ kind: z.literal('inference'), sequenceLength: z.number().int().positive(), repeats: z.number().int().positive() }),
  /** Continues the beginning of each window of `data` greedily by `tokens` tokens. */
  z.object({ kind: z.literal('repetition'), data: dataRequest, name: z.string(), tokens: z.number().int().positive() }),
  /** Perplexity by position in windows of `data`, and numbers hidden in them. Windows of text are no longer than the model's context. */
  z.object({ kind: z.literal('long context'), data: dataRequest, name: z.string() }),
  z.object({ kind: z.literal('answers'), prompts: z.array(z.string()), maxLength: z.number().int().positive() }),
])

/** How many rows of embedding and head stay: a number, or a share of them. */
export const keptRows = z.union([z.object({ rows: z.number().int().positive() }), z.object({ share: z.number().positive().max(1) })])

/** A repair of the method's result, fitted on its own windows. */
const repairRequest = z.object({ kind: repairKind, calibration: dataRequest })

/** A number of a run, as another machine or another day has it. */
const describedMeasure = z.object({ name: z.string(), dataset: z.string(), value: z.number(), unit: z.string() })

/** What a run reproduces: the numbers of a description. If `afresh` is true, no step is taken from other runs. */
const reproduced = z.object({ measures: z.array(describedMeasure).max(1000), version: z.string(), afresh: z.boolean() })

/** Everything that determines a run. The same request with the same seed gives the same plan. */
export const runRequest = z.object({
  model: z.string(),
  method: z.string(),
  amount,
  options: z.record(z.string(), z.unknown()),
  /**
   * Seeds every random choice of the method. With 0, text is read in its own order. With another seed, the windows for calibration, repair
   * and recovery are drawn at random.
   */
  seed: z.number().int().nonnegative(),
  calibration: dataRequest.optional(),
  /**
   * Removes rows of the vocabulary before the method, ranked by the calibration text as the method `vocabulary` does. The method, repair and
   * recovery then see a model that only has the others.
   */
  vocabulary: keptRows.optional(),
  repair: repairRequest.optional(),
  /** A short training after the method and the repair. */
  recover: recoveryRequest.optional(),
  /** Measures the weights as a GGUF file of this type stores them. If absent, they are measured as computed. */
  weights: weightType.optional(),
  measures: z.array(measureRequest),
  /** Set if the run inspects other runs instead of pruning. */
  inspect: inspection.optional(),
  /** How the windows of all texts begin. Default: reference. */
  beginToken: beginChoice.optional(),
  /** Folder of local data sets. Named data sets are read from it and nothing is downloaded. */
  localFolder: readPlace.optional(),
  backend: backendName,
  /** Default: float32. */
  precision: precisionName.optional(),
  memoryBytes: z.number().int().positive().optional(),
  /** Set if the run was made from a description. */
  reproduces: reproduced.optional(),
})

export type Reproduced = z.infer<typeof reproduced>
export type BackendName = z.infer<typeof backendName>
export type KeptRows = z.infer<typeof keptRows>
export type RepairRequest = z.infer<typeof repairRequest>
export type SpeedBudget = z.infer<typeof speedBudget>
export type FileBudget = z.infer<typeof fileBudget>
export type Amount = z.infer<typeof amount>
/** An amount that itself says how much to remove. */
export type PlainAmount = Exclude<Amount, FileBudget | SpeedBudget>
export type MeasureRequest = z.infer<typeof measureRequest>
export type RunRequest = z.infer<typeof runRequest>
