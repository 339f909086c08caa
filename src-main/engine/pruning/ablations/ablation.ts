import type { z } from 'zod'
import type { Plot } from '#contract/comparison/plot.ts'
import type { Table } from '#contract/comparison/table.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { budgetFor } from '../budget.ts'
import type { MethodResult, MethodRun } from '../method.ts'
import { planTwoStages, type TwoStageOptions, twoStage } from '../methods/2ssp.ts'
import { reachedSparsity } from '../plan.ts'
import { type MlpScores, mlpScores } from '../scores/mlp-scores.ts'

/** What an ablation gets from its caller. */
export interface AblationInput<Options> {
  /** The dense model. */
  readonly view: ModelView
  readonly options: Options
  /** Reads up to `count` calibration windows, with documents in the order of `seed`. Seed 0 keeps the order of the text. */
  calibration(count: number, seed: number): Promise<Windows>
  /** The text on which perplexity is measured. */
  readonly evaluation: { readonly name: string; readonly windows: Windows }
  readonly run: MethodRun
}

export interface AblationResult {
  readonly table: Table
  readonly plot: Plot
  readonly notes: readonly string[]
}

/** A study of one choice of 2SSP. It produces a table and a plot. */
export interface Ablation<Schema extends z.ZodObject = z.ZodObject> {
  readonly title: string
  readonly summary: string
  readonly options: Schema
  /** Throws if one of its pruned models is infeasible. */
  check(spec: DecoderSpec, options: z.infer<Schema>): void
  /** Returns the models that it makes as options of 2SSP, to estimate its time. */
  trials(spec: DecoderSpec, options: z.infer<Schema>): PlannedTrial[]
  study(input: AblationInput<z.infer<Schema>>): Promise<AblationResult>
}

type PlannedTrial = Pick<Trial, 'sparsity' | 'options'>

export function defineAblation<Schema extends z.ZodObject>(ablation: Ablation<Schema>): Ablation {
  return ablation as unknown as Ablation
}

/** One pruned model of an ablation, measured. */
export interface Measured {
  readonly result: MethodResult
  readonly reached: number
  readonly perplexity: number
  readonly seconds: number
}

export interface Trial {
  /** A name that is unique within the ablation. Steps are stored under it. */
  readonly name: string
  readonly sparsity: number
  readonly options: Partial<TwoStageOptions>
  readonly calibration: Windows
  /** Scores to use instead of computing them in another pass. */
  readonly scores?: MlpScores
}

/** Throws `infeasible` if 2SSP cannot reach a sparsity with these options. */
export function checkTrial(spec: DecoderSpec, sparsity: number, options: Partial<TwoStageOptions>): void {
  twoStage.outline?.(spec, budgetFor(spec, { sparsity }), twoStage.options.parse(options))
}

const trialSecondsStep: StepKind = { version: 1, reach: 'own' }
const trialPerplexityStep: StepKind = { version: 1 }

/** Prunes with 2SSP's options and measures perplexity. Trials on the same windows share the first stage's pass. */
export async function measureTrial<Options>({ view, evaluation, run }: AblationInput<Options>, trial: Trial): Promise<Measured> {
  const silent: MethodRun = { ...run, emit: () => undefined }
  const options = twoStage.options.parse(trial.options)
  const input = { view, calibration: trial.calibration, budget: budgetFor(view.spec, { sparsity: trial.sparsity }), options, run: silent }
  const start = performance.now()
  const result = await planTwoStages(input, async (scored) => trial.scores ?? mlpScores(scored, options))
  const { plan } = result
  const seconds = await run.step(
    { kind: trialSecondsStep, label: `${trial.name}: seconds`, on: { plan } },
    () => (performance.now() - start) / 1000,
  )
  const asked = {
    kind: trialPerplexityStep,
    label: `${trial.name}: perplexity on ${evaluation.name}`,
    on: { plan, windows: evaluation.windows },
  }
  const value = await run.step(asked, () => perplexityOf(view, plan, evaluation.windows, run.signal))
  return { result, reached: reachedSparsity(view.spec, plan), perplexity: value, seconds }
}

async function perplexityOf(dense: ModelView, plan: Plan, windows: Windows, signal: AbortSignal): Promise<number> {
  const view = viewWithPlan(dense.model, plan)
  try {
    return (await perplexity(view, windows, { signal })).perplexity
  } finally {
    view.dispose()
  }
}
