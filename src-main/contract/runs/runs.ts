import { z } from 'zod'
import { clusterJob } from '../clusters/clusters.ts'
import { usedBegin } from '../data/begin-token.ts'
import { taskOutcomes } from '../data/questions.ts'
import { usedData } from '../data/used-data.ts'
import { errorCodes } from '../errors.ts'
import { id, limit, moment, name, notes, offset, tags } from '../identifiers.ts'
import { inspected } from '../inspection/inspected.ts'
import { modelDescription } from '../models/models.ts'
import { judgedExperts } from '../pruning/experts.ts'
import { gateStep, neuronScores } from '../pruning/gates.ts'
import { mixedTypes } from '../pruning/mixed-types.ts'
import { plan } from '../pruning/plan.ts'
import { certified, precision } from '../pruning/precision.ts'
import { recovery, recoveryPoint } from '../pruning/recovery.ts'
import { repair } from '../pruning/repair.ts'
import { tokenRanking } from '../pruning/token-ranking.ts'
import { measure } from './measures.ts'
import { decision, metBudget, passes, selection, spectrum, study } from './run.ts'
import { runEvent } from './run-events.ts'
import { runFieldShape } from './run-fields.ts'
import { runRequest } from './run-request.ts'
import { runStatus } from './run-status.ts'
import { progress } from './time/progress.ts'

/** Why a run failed, for users; `advice` says what to try. */
const runProblem = z.object({ code: z.enum(errorCodes), message: z.string(), advice: z.string().nullable() })

/** A parameter of a run (`alpha`, `calibration.windows`, …), flattened for columns and filters. */
export const parameterValue = z.union([z.number(), z.string(), z.boolean()])

/** A measure as shown in tables: the last value, and the best if it was taken several times. */
const measureSummary = measure.extend({ best: z.number() })

/**
 * The dense model that a run's weights come from: its entry in the library, and its content when it was pruned (see `fingerprint`). For a
 * model that a run saved (`pruned`), these are those of its dense ancestor. Otherwise they are the run's own.
 */
const lineage = z.object({ model: id, content: z.string().nullable(), pruned: z.boolean() })

/** One row of the history. `parameters` and `measures` hold the requested columns, or all. */
export const runEntry = z.object({
  id,
  ...runFieldShape,
  experiment: z.object({ id, name }).nullable(),
  model: z.object({ id, name }),
  lineage,
  progress: progress.nullable(),
  problem: runProblem.nullable(),
  /** What the cluster reports about the run, while the run is there. */
  job: clusterJob.nullable(),
  archived: z.boolean(),
  tags,
  parameters: z.record(z.string(), parameterValue),
  measures: z.array(measureSummary),
})

/** The versions and the machine that produced the numbers. */
export const environment = z.object({
  version: z.string(),
  platform: z.string(),
  node: z.string(),
  backend: z.string().nullable(),
  device: z.string().nullable(),
  memoryBytes: z.number().nullable(),
})

/** The long parts of a run: the unchanged request, the options that the engine filled in (`resolved`), and the results. */
export const runRecord = z.object({
  request: runRequest,
  resolved: z.record(z.string(), z.unknown()),
  environment: environment.nullable(),
  plan: plan.nullable(),
  width: z.object({ kept: z.array(z.number().int()), of: z.number().int() }).nullable(),
  neuronScores: neuronScores.nullable(),
  answers: z.array(z.object({ prompt: z.string(), text: z.string() })),
  /** The result of an ablation; null for other runs. */
  study: study.nullable(),
  /** The result of inspecting other runs; null for other runs. */
  inspected: inspected.nullable(),
  passes: passes.nullable(),
  /** Which zero-shot questions were answered correctly. */
  outcomes: z.array(taskOutcomes),
  /** How products were computed; null if not recorded, which means float32. */
  precision: precision.nullable(),
  certified: certified.nullable(),
  remarks: z.array(z.string()),
  phaseSeconds: z.record(z.string(), z.number()),
  /** The windows used for calibration and measuring; null or empty if none were used or recorded. */
  calibration: usedData.nullable(),
  evaluation: z.array(usedData),
  /** How the windows of all texts began; null for runs that read them as the 2SSP reference does. */
  beginToken: usedBegin.nullable(),
  /** What a repair did; null if none was requested. */
  repair: repair.nullable(),
  /** What a recovery did; null if none was requested. Its points arrive as they are measured. */
  recovery: recovery.nullable(),
  /** The request's budget with the predicted and the real cost; null if the request has none. */
  budget: metBudget.nullable(),
  /** How experts were judged; null for methods that do not remove experts. */
  experts: judgedExperts.nullable(),
  /** What mixed weight types were chosen by; null for other weights. */
  mixed: mixedTypes.nullable(),
  /** What other numbers of rows of the vocabulary would keep; null for runs that remove none. */
  ranking: tokenRanking.nullable(),
})

/** A run with everything its page shows. Events and log are long and have their own calls. */
export const runDetail = runEntry.extend(runRecord.shape).extend({
  notes,
  modelDescription: modelDescription.nullable(),
  decisions: z.array(decision),
  selections: z.array(selection),
  /** Only for a method that rotates the stream to its principal components. */
  spectra: z.array(spectrum),
  recoveryPoints: z.array(recoveryPoint),
  /** The steps of trained gates so far. Empty for other methods. */
  gateSteps: z.array(gateStep),
  stepsDone: z.number().int(),
  attempts: z.number().int(),
})

export const recordedEvent = z.object({ sequence: z.number().int(), at: moment, event: runEvent })

/** One of `runFields`, `experiment`, `model`, `tag`, `parameter:NAME`, `measure:NAME` or `measure:NAME/DATASET`. */
const field = z.string().min(1).max(200)
const condition = z.object({
  field,
  is: z.enum([
    'equal',
    'not equal',
    'any of',
    'none of',
    'all of',
    'below',
    'at most',
    'above',
    'at least',
    'between',
    'contains',
    'present',
    'absent',
  ]),
  value: z.union([parameterValue, z.array(parameterValue).max(1000)]).optional(),
})

export const runFilter = z.object({
  search: z.string().max(500).default(''),
  conditions: z.array(condition).max(50).default([]),
  experiment: id.optional(),
  archived: z.enum(['no', 'only', 'all']).default('no'),
})

export const sortKey = z.object({ field, direction: z.enum(['ascending', 'descending']).default('ascending') })

/** A page of the filtered, sorted history. Omit `columns` for every parameter and measure. */
export const runQuery = runFilter.extend({
  sort: z
    .array(sortKey)
    .max(5)
    .default([{ field: 'createdAt', direction: 'descending' }]),
  columns: z.array(field).max(200).optional(),
  /** Whether measures have their losses by window and their answers, which are long. */
  details: z.boolean().default(false),
  offset,
  limit,
})

export const runPage = z.object({
  total: z.number().int(),
  offset: z.number().int(),
  rows: z.array(runEntry),
  counts: z.partialRecord(runStatus, z.number().int()),
  /** How many of them are analyses of what broke, which are no runs of their own. */
  analyses: z.number().int(),
  /** Archived runs that the filter would find. */
  archived: z.number().int(),
})

/**
 * Runs that share the values of some fields: their number, and for each number of a run its mean, with the deviation (n - 1) if there are
 * several. With `factor`, as for perplexities, the mean is geometric and the deviation a factor. Numbers on different texts have no mean.
 */
export const runGroup = z.object({
  /** One key for each level, outermost first. Their conditions together select the runs of the group. */
  keys: z.array(z.object({ value: parameterValue.nullable(), label: z.string(), condition })),
  runs: z.number().int(),
  means: z.array(
    z.object({
      field,
      unit: z.string(),
      runs: z.number().int(),
      mean: z.number().nullable(),
      deviation: z.number().nullable(),
      factor: z.boolean(),
    }),
  ),
})

/** A column of the history, with the range or the values that its filter offers. */
export const runColumn = z.object({
  field,
  label: z.string(),
  kind: z.enum(['number', 'text', 'boolean', 'moment', 'tags']),
  runs: z.number().int(),
  minimum: z.number().optional(),
  maximum: z.number().optional(),
  values: z.array(parameterValue).optional(),
  unit: z.string().optional(),
})

export const savedView = z.object({ id, name, state: z.record(z.string(), z.unknown()), createdAt: moment })

/** Everything needed to repeat a run elsewhere. The model is looked up there by path, source, name, or family and shape. */
export const runDescription = z.object({
  format: z.literal('espalier run'),
  formatVersion: z.literal(1),
  name,
  model: z.object({ name: z.string(), source: z.string().nullable(), description: modelDescription.nullable() }),
  request: runRequest,
  version: z.string(),
  /** The run's numbers if it was done. Absent in descriptions of earlier versions. */
  measures: z.array(measure.pick({ name: true, dataset: true, value: true, unit: true })).optional(),
})

/** What a permanent deletion would remove. */
export const removal = z.object({
  runs: z.number().int(),
  transcripts: z.number().int(),
  bytes: z.number().int(),
  undoUntil: moment.nullable(),
})

export type RunProblem = z.infer<typeof runProblem>
export type ParameterValue = z.infer<typeof parameterValue>
export type MeasureSummary = z.infer<typeof measureSummary>
export type RunEntry = z.infer<typeof runEntry>
export type RunRecord = z.infer<typeof runRecord>
export type RunDetail = z.infer<typeof runDetail>
export type RunEnvironment = z.infer<typeof environment>
export type RecordedEvent = z.infer<typeof recordedEvent>
export type Condition = z.infer<typeof condition>
export type RunFilter = z.infer<typeof runFilter>
export type RunQuery = z.infer<typeof runQuery>
export type RunPage = z.infer<typeof runPage>
export type RunGroup = z.infer<typeof runGroup>
export type RunColumn = z.infer<typeof runColumn>
export type SavedView = z.infer<typeof savedView>
export type RunDescription = z.infer<typeof runDescription>
export type Removal = z.infer<typeof removal>
