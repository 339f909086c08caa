import { z } from 'zod'
import { dataRequest } from '../data/data-request.ts'
import { id, moment, name, notes, tags } from '../identifiers.ts'
import { readPlace } from '../places.ts'
import { precisionName } from '../pruning/precision.ts'
import { recoveryAmount, trainedWeights } from '../pruning/recovery.ts'
import { repairKind } from '../pruning/repair.ts'
import { outline, problem, requestPreview } from '../runs/preflight.ts'
import { amount, backendName, measureRequest, weightType } from '../runs/run-request.ts'
import { runStatus } from '../runs/run-status.ts'
import { estimateBasis, secondsRange } from '../runs/time/estimate.ts'

/** How a grid repairs the results of its methods. */
export const repairChoice = z.enum(['none', ...repairKind.options])

/** Whether and how long a grid recovers what its methods and repairs leave. */
const recoveryChoice = z.union([z.literal('none'), recoveryAmount])

/** The type that measured weights are stored in, or as computed. */
export const weightChoice = z.union([z.literal('computed'), weightType])

const gridMethod = z.object({ method: z.string(), options: z.record(z.string(), z.unknown()).default({}) })

/** Models x methods x amounts x seeds. The dense baseline of each model is added automatically. */
export const grid = z.object({
  models: z.array(id).min(1).max(50),
  methods: z.array(gridMethod).max(100),
  amounts: z.array(amount).max(100),
  seeds: z.array(z.number().int().nonnegative()).min(1).max(100).default([0]),
  calibration: dataRequest.optional(),
  /**
   * Runs every combination once per entry; without any, each method uses its default. Fitted on `repairData`, else on the calibration text.
   */
  repairs: z.array(repairChoice).min(1).max(3).optional(),
  repairData: dataRequest.optional(),
  /** Recovers every combination once per entry; without any, none is recovered. Trains on `recoveryData`, else on the usual text. */
  recoveries: z.array(recoveryChoice).min(1).max(5).optional(),
  recoveryData: dataRequest.optional(),
  recoveryTrains: trainedWeights.optional(),
  /** Measures every combination and the dense model once per type; without any, as computed. */
  weights: z.array(weightChoice).min(1).max(40).optional(),
  /** More types for the dense model only, as rivals of the pruned files. */
  rivals: z.array(weightType).max(40).optional(),
  /** Smaller models whose unpruned files in these types are rivals, too. */
  siblings: z.array(id).max(10).optional(),
  measures: z.array(measureRequest).default([]),
  localFolder: readPlace.optional(),
  backend: backendName.default('auto'),
  precision: precisionName.optional(),
  memoryBytes: z.number().int().positive().optional(),
})

/** Preview of one combination of a grid: the split by Eq. 5, the sparsity it reaches, and its cost. */
const combinationPreview = requestPreview.pick({ feasibleRange: true, fileRange: true, memoryBytes: true, formats: true }).extend({
  ...outline.shape,
  /** The name of its runs, without the seed. */
  name: z.string(),
  model: id,
  method: z.string(),
  amount,
  repair: repairChoice.default('none'),
  recovery: recoveryChoice.default('none'),
  runs: z.number().int(),
  feasible: z.boolean(),
  problem: z.string().nullable(),
  /** For one run by itself; null until the machine has been timed. */
  seconds: secondsRange.nullable(),
})

export const gridPreview = z.object({
  combinations: z.array(combinationPreview),
  runs: z.number().int(),
  /** For all runs in sequence, with shared steps done once, and the basis of the estimate. */
  seconds: secondsRange.nullable(),
  basis: estimateBasis.nullable(),
  memoryBytes: z.number().nullable(),
  problems: z.array(problem),
  notes: z.array(z.string()),
})

/** Parts of the form that a preset can explain. */
const explainedPart = z.enum(['methods', 'amounts', 'weights', 'repair', 'recovery', 'measures'])
export type ExplainedPart = z.infer<typeof explainedPart>

/** A ready-made grid. `goal` is what a user gets from it, if it answers the first question of the form; `reasons` explain it by part of the form. */
export const preset = z.object({
  id: z.string(),
  title: z.string(),
  summary: z.string(),
  goal: z.string().optional(),
  reasons: z.partialRecord(explainedPart, z.string()).optional(),
  grid,
})

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
  /** Names of models that were replaced between its runs, so that these used different models under one name. */
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
export type ExperimentEntry = z.infer<typeof experimentEntry>
