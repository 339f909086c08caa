import { z } from 'zod'
import { beginChoice } from '../data/begin-token.ts'
import { dataRequest } from '../data/data-request.ts'
import { id, moment, name, notes, tags } from '../identifiers.ts'
import { readPlace } from '../places.ts'
import { precisionName } from '../pruning/precision.ts'
import { recoveryAmount, trainedWeights } from '../pruning/recovery.ts'
import { repairKind } from '../pruning/repair.ts'
import { outline, problem, requestPreview } from '../runs/request-preview.ts'
import { amount, backendName, keptRows, measureRequest, weightType } from '../runs/run-request.ts'
import { runStatus } from '../runs/run-status.ts'
import { estimateBasis, secondsRange } from '../runs/time/estimate.ts'

/** How a run of a grid is repaired. */
export const repairChoice = z.enum(['none', ...repairKind.options])

/** Whether a run of a grid is recovered after pruning and repair, and for how long. */
const recoveryChoice = z.union([z.literal('none'), recoveryAmount])

/** The type that weights are stored in before they are measured, or `computed` to measure them as computed. */
export const weightChoice = z.union([z.literal('computed'), weightType])

const gridMethod = z.object({ method: z.string(), options: z.record(z.string(), z.unknown()).default({}) })

/** Models x methods x amounts x seeds. The dense baseline of each model is added automatically. */
export const grid = z.object({
  models: z.array(id).min(1).max(50),
  methods: z.array(gridMethod).max(100),
  amounts: z.array(amount).max(100),
  seeds: z.array(z.number().int().nonnegative()).min(1).max(100).default([0]),
  calibration: dataRequest.optional(),
  /** Rows of the vocabulary that stay before any method prunes. The method `vocabulary` has options of its own. */
  vocabulary: keptRows.optional(),
  /** Runs every combination once per entry. If absent, none is repaired. The text is `repairData`, or else the default text of repairs. */
  repairs: z.array(repairChoice).min(1).max(3).optional(),
  repairData: dataRequest.optional(),
  /** Runs every combination once per entry. If absent, none is recovered. The text is `recoveryData`, or else the default of recoveries. */
  recoveries: z.array(recoveryChoice).min(1).max(5).optional(),
  recoveryData: dataRequest.optional(),
  recoveryTrains: trainedWeights.optional(),
  /** Measures every combination and the dense model once per type. If absent, weights are measured as computed. */
  weights: z.array(weightChoice).min(1).max(40).optional(),
  /** More types, for the dense model only. Its files in these types are rivals of the pruned files. */
  rivals: z.array(weightType).max(40).optional(),
  /** Smaller models whose unpruned files, in the types of `weights` and `rivals`, are rivals too. */
  siblings: z.array(id).max(10).optional(),
  measures: z.array(measureRequest).default([]),
  /** How the windows of all texts begin. Default: reference. */
  beginToken: beginChoice.optional(),
  localFolder: readPlace.optional(),
  backend: backendName.default('auto'),
  precision: precisionName.optional(),
  memoryBytes: z.number().int().positive().optional(),
})

/** The preview of one combination of a grid: what it removes, the sparsity that it reaches, and its cost. */
const combinationPreview = requestPreview.pick({ feasibleRange: true, fileRange: true, memoryBytes: true, formats: true }).extend({
  ...outline.shape,
  /** The name of the combination's runs, without the seed. */
  name: z.string(),
  model: id,
  method: z.string(),
  amount,
  repair: repairChoice.default('none'),
  recovery: recoveryChoice.default('none'),
  runs: z.number().int(),
  feasible: z.boolean(),
  problem: z.string().nullable(),
  /** The duration of one run by itself; null until the machine has been timed. */
  seconds: secondsRange.nullable(),
})

export const gridPreview = z.object({
  combinations: z.array(combinationPreview),
  runs: z.number().int(),
  /** The duration of all runs one after another, with shared steps done once, and the basis of this estimate. */
  seconds: secondsRange.nullable(),
  basis: estimateBasis.nullable(),
  memoryBytes: z.number().nullable(),
  problems: z.array(problem),
  notes: z.array(z.string()),
})

/** Parts of the form that a preset can explain. */
const explainedPart = z.enum(['methods', 'amounts', 'weights', 'repair', 'recovery', 'measures'])
export type ExplainedPart = z.infer<typeof explainedPart>

/** A ready-made grid. `goal` is set if the first question of the form offers the preset. `reasons` explain the grid by part of the form. */
export const preset = z.object({
  id: z.string(),
  title: z.string(),
  summary: z.string(),
  goal: z.string().optional(),
  reasons: z.partialRecord(explainedPart, z.string()).optional(),
  grid,
})

/** What a quick answer is for: the largest GGUF file, or the lowest speed of writing. */
export const quickTarget = z.union([z.object({ bytes: z.number().int() }), z.object({ tokensPerSecond: z.number().positive() })])

/** The sizes that a quick answer can be about: today's files of a model, and the smallest that pruning and quantising make of it. */
export const quickSizes = z.object({
  /** What the model takes on disk now. */
  today: z.number(),
  /** The unpruned model in the usual GGUF types, largest first. Types that make files of one size are one entry. */
  files: z.array(z.object({ types: z.array(weightType).min(1), bytes: z.number() })),
  least: z.number(),
  /** The method that a quick answer prunes with. */
  method: z.string(),
})

/** A grid that answers one question within minutes, and what the preview says of it. */
export const quickAnswer = z.object({ grid, name: z.string(), preview: gridPreview })

export const experimentEntry = z.object({
  id,
  name,
  notes,
  tags,
  starred: z.boolean(),
  archived: z.boolean(),
  createdAt: moment,
  counts: z.partialRecord(runStatus, z.number().int()),
  runs: z.number().int(),
  baselines: z.array(id),
  /** Names of models whose files were replaced between runs of this experiment, so that its runs used different models under one name. */
  changedModels: z.array(z.string()),
})

export type RepairChoice = z.infer<typeof repairChoice>
export type RecoveryChoice = z.infer<typeof recoveryChoice>
export type WeightChoice = z.infer<typeof weightChoice>
export type Grid = z.infer<typeof grid>
export type GridInput = z.input<typeof grid>
export type CombinationPreview = z.infer<typeof combinationPreview>
export type GridPreview = z.infer<typeof gridPreview>
export type Preset = z.infer<typeof preset>
export type QuickTarget = z.infer<typeof quickTarget>
export type QuickSizes = z.infer<typeof quickSizes>
export type QuickAnswer = z.infer<typeof quickAnswer>
export type ExperimentEntry = z.infer<typeof experimentEntry>
