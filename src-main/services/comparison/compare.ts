import type { ComparedRun, Comparison } from '#contract/comparison/compare.ts'
import { comparisonTable } from '#contract/comparison/comparison.ts'
import { pairTasks } from '#contract/comparison/paired.ts'
import type { TaskOutcomes } from '#contract/data/questions.ts'
import { EspalierError } from '#contract/errors.ts'
import { areComparable, usedSameModel } from '#contract/runs/used-model.ts'
import { baselineIn } from '#jobs/baselines.ts'
import type { Context, Service } from '../context.ts'
import { compareQuestions } from './compare-questions.ts'
import { tableFile } from './table-text.ts'

/** Runs side by side. The contract does the arithmetic, so that screens and exports agree. */
export function compareService({ history }: Pick<Context, 'history'>): Service<'compare'> {
  function outcomesOf(id: string | null): TaskOutcomes[] {
    const row = id === null ? undefined : history.runs.find(id)
    return row ? history.documents.find(row.number).outcomes : []
  }

  function compared(ids: readonly string[], baseline: string | null): ComparedRun[] {
    const rows = ids.map((id) => {
      const row = history.runs.find(id)
      if (!row) throw new EspalierError('not-found', `There is no run ${id}.`)
      return row
    })
    const shapes = new Map(
      [...new Set(rows.map(({ model }) => model))].map((model) => [model, history.models.find(model)?.description.shape]),
    )
    const outcomesOfBaseline = outcomesOf(baseline)
    const pinned = baseline === null ? undefined : history.runs.find(baseline)
    return history.runs.entries(rows.map(({ number }) => number)).map((entry, at) => {
      const row = rows[at] as (typeof rows)[number]
      const { number, model } = row
      const { answers, calibration, evaluation, outcomes } = history.documents.find(number)
      return {
        ...entry,
        plan: history.documents.plan(number),
        blocks: shapes.get(model)?.blocks ?? null,
        intermediate: shapes.get(model)?.intermediate ?? null,
        removalOrder: history.events.removalOrder(number),
        answers,
        calibration,
        evaluation,
        paired: pinned && entry.id !== baseline && areComparable(row, pinned) ? pairTasks(outcomesOfBaseline, outcomes) : [],
      }
    })
  }

  function compare(ids: readonly string[], wanted: string | undefined): Comparison {
    const unique = [...new Set(ids)]
    const baseline = wanted ?? baselineOf(unique)
    const runs = compared(baseline === null || unique.includes(baseline) ? unique : [baseline, ...unique], baseline)
    return { baseline, runs }
  }

  /** The dense run with the same model as the first pruned run: one of those requested, else its experiment's. */
  function baselineOf(ids: readonly string[]): string | null {
    const rows = ids.flatMap((id) => history.runs.find(id) ?? [])
    const among = rows.filter(({ baseline }) => baseline === 1)
    const first = rows.find(({ baseline }) => baseline === 0)
    if (!first) return among[0]?.id ?? null
    const same = among.find((row) => usedSameModel(row, first)) ?? baselineIn(history, first)
    return (same ?? among.find((row) => row.model !== first.model))?.id ?? null
  }

  return {
    'compare.get': ({ ids, baseline }) => compare(ids, baseline),
    'compare.questions': (asked) => compareQuestions(history, asked),
    'compare.table'({ ids, baseline, format, overSeeds, measures }) {
      const comparison = compare(ids, baseline)
      return tableFile(comparisonTable(comparison.runs, comparison.baseline, overSeeds, measures), format, 'comparison')
    },
  }
}
