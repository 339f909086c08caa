import type { Checked } from '#contract/api.ts'
import { whyApart } from '#contract/comparison/comparable.ts'
import type { ComparedRun, Comparison, QuestionComparison } from '#contract/comparison/compared-run.ts'
import { comparedGroups, comparisonTable } from '#contract/comparison/comparison-table.ts'
import { pairTable } from '#contract/comparison/pair-table.ts'
import { differenceInterval, pairTasks } from '#contract/comparison/paired-questions.ts'
import type { SeedGroup } from '#contract/comparison/seeds.ts'
import { sparsityTables } from '#contract/comparison/sparsity-table.ts'
import type { ScoredQuestion, TaskOutcomes } from '#contract/data/questions.ts'
import { EspalierError } from '#contract/errors.ts'
import { usedSameModel } from '#contract/runs/used-model.ts'
import { baselineIn } from '#db/runs/baselines.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { Calls, Context } from '../context.ts'
import { fileName } from '../experiments/grid.ts'
import { optionTitles } from '../machine/catalogue.ts'
import { safeFileName } from '../models/folders.ts'
import { Service } from '../service.ts'
import { tableFile } from './table-text.ts'

/** Collects runs for a comparison, and writes its tables. The contract does the arithmetic, so that screens and exports agree. */
export class CompareService extends Service {
  readonly calls: Calls<'compare'> = {
    'compare.get': ({ ids, baseline }) => this.#compare(ids, baseline),
    'compare.questions': (request) => compareQuestions(this.history, request),
    'compare.table': async ({ ids, baseline, format, by, pair, overSeeds, measures }) => {
      const { runs, baseline: pinned } = this.#compare(ids, baseline)
      if (by === 'pair') {
        const [first, second] = pairOf(comparedGroups(runs, pinned, overSeeds), pair)
        return tableFile(pairTable(first, second), format, safeFileName(`${first.name} against ${second.name}`))
      }
      if (by === 'run') return tableFile(comparisonTable(runs, pinned, overSeeds, measures), format, 'comparison')
      const tables = sparsityTables(runs, await optionTitles(this.parts))
      const wanted = tables.find(({ id }) => measures?.includes(id) ?? true)
      if (!wanted) throw new EspalierError('not-found', 'No pruned run has this measure. Choose runs with a perplexity or an accuracy.')
      return tableFile(wanted.table, format, `${wanted.title} by sparsity`.replaceAll(/[^\w.]+/g, '-'))
    },
  }

  #compare(ids: readonly string[], wanted: string | undefined): Comparison {
    const unique = [...new Set(ids)]
    const baseline = wanted ?? this.#baselineOf(unique)
    return { baseline, runs: this.#compared(baseline === null || unique.includes(baseline) ? unique : [baseline, ...unique], baseline) }
  }

  /**
   * Returns the dense run with the same model as the first pruned run: a requested one, else the one of its experiment. If there is
   * neither, a requested dense run of another model. Without a pruned run, the first dense one.
   */
  #baselineOf(ids: readonly string[]): string | null {
    const rows = ids.flatMap((id) => this.history.runs.find(id) ?? [])
    const among = rows.filter(({ baseline }) => baseline === 1)
    const first = rows.find(({ baseline }) => baseline === 0)
    if (!first) return among[0]?.id ?? null
    const same = among.find((row) => usedSameModel(row, first)) ?? baselineIn(this.history, first)
    return (same ?? among.find((row) => row.model !== first.model))?.id ?? null
  }

  #compared(ids: readonly string[], baseline: string | null): ComparedRun[] {
    const rows = ids.map((id) => this.history.runs.get(id))
    const outcomesOfBaseline = this.#outcomesOf(baseline)
    const numbers = rows.map(({ number }) => number)
    const entries = this.history.runs.entries(numbers, { details: true })
    const pinned = entries.find(({ id }) => id === baseline)
    return entries.map((entry, at) => {
      const row = rows[at] as RunRow
      const { request, answers, calibration, evaluation, outcomes, experts } = this.history.documents.find(row.number)
      const shape = this.history.models.find(row.model)?.description.shape
      return {
        ...entry,
        file: fileName(request),
        plan: this.history.documents.plan(row.number),
        experts,
        blocks: shape?.blocks ?? null,
        intermediate: shape?.intermediate ?? null,
        removalOrder: this.history.events.removalOrder(row.number),
        answers,
        calibration,
        evaluation,
        paired:
          pinned && pinned !== entry
            ? pairTasks(outcomesOfBaseline, outcomes).filter(
                ({ task, measure }) => whyApart(entry, pinned, { name: measure, dataset: task }) === null,
              )
            : [],
      }
    })
  }

  #outcomesOf(id: string | null): TaskOutcomes[] {
    const row = id === null ? undefined : this.history.runs.find(id)
    return row ? this.history.documents.find(row.number).outcomes : []
  }
}

/** The tests between the results that two runs belong to. */
function pairOf(groups: readonly SeedGroup[], pair: readonly [string, string] | undefined): [SeedGroup, SeedGroup] {
  const [first, second] = (pair ?? []).map((id) => groups.find(({ runs }) => runs.some((run) => run.id === id)))
  if (!first || !second || first === second)
    throw new EspalierError(
      'invalid',
      'A test needs two different results. Give two of the compared runs that differ in more than the seed.',
    )
  return [first, second]
}

/** Compares two runs on the questions that both answered: a test for each task, and one page of flipped questions, clearest first. */
function compareQuestions(
  history: Context['history'],
  { first, second, task, offset, limit }: Checked<'compare.questions'>,
): QuestionComparison {
  const [own, other] = [answersOf(history, first), answersOf(history, second)]
  const tasks = pairTasks(own.outcomes, other.outcomes)
  if (tasks.length === 0)
    throw new EspalierError(
      'conflict',
      `"${own.row.name}" and "${other.row.name}" have no questions in common. Evaluate both on the same zero-shot tasks.`,
    )
  const paired = [...new Set(tasks.map((one) => one.task))].filter((one) => task === undefined || one === task)
  const flipped = paired.flatMap((name) => {
    const [before, after] = [own, other].map(({ scored }) => scored.find((one) => one.task === name)?.questions ?? []) as [
      ScoredQuestion[],
      ScoredQuestion[],
    ]
    return before.flatMap((question, number): QuestionComparison['flipped'] => {
      const now = after[number]
      if (!now || now.correct === question.correct) return []
      return [{ task: name, number, direction: now.correct ? 'gained' : 'lost', first: question, second: now }]
    })
  })
  const sorted = flipped.sort((a, b) => swing(b) - swing(a))
  return {
    tasks: tasks.map((one) => ({ ...one, interval: intervalOf(one, own.outcomes, other.outcomes) })),
    total: sorted.length,
    flipped: sorted.slice(offset, offset + limit),
  }
}

/** How much the right choice's lead over the best wrong one changed, in nats. */
function swing({ first, second }: QuestionComparison['flipped'][number]): number {
  return Math.abs(lead(first) - lead(second))
}

function lead({ scores, gold }: ScoredQuestion): number {
  return (scores[gold] ?? 0) - Math.max(...scores.filter((_, choice) => choice !== gold))
}

function intervalOf({ task, measure }: { task: string; measure: string }, first: readonly TaskOutcomes[], second: readonly TaskOutcomes[]) {
  const digits = (all: readonly TaskOutcomes[]) => {
    const found = all.find((one) => one.task === task)
    return (measure === 'accuracy' ? found?.correct : found?.correctPerCharacter) ?? ''
  }
  return differenceInterval(digits(first), digits(second))
}

function answersOf(
  history: Context['history'],
  id: string,
): { row: RunRow; outcomes: TaskOutcomes[]; scored: ReturnType<Context['history']['documents']['questions']> } {
  const row = history.runs.get(id)
  return { row, outcomes: history.documents.find(row.number).outcomes, scored: history.documents.questions(row.number) }
}
