import { corporaOf, corpusOf } from '../data/corpus.ts'
import type { UsedData } from '../data/used-data.ts'
import { everyTaskTitle } from '../titles.ts'
import { loopingMeasure } from './answer-statistics.ts'
import type { ComparedRun } from './compare.ts'
import { paretoFront } from './comparison.ts'
import { type Cost, fileSize } from './costs.ts'
import { isTaskMeasure, type TaskMeasure } from './measure-columns.ts'
import { groupOverSeeds, type MeasureOverSeeds, type SeedGroup, standardError } from './seeds.ts'
import { treatmentOf } from './series.ts'
import { judge, type Verdict } from './verdict-sentence.ts'
import type { Duel, Front, Quality, WorthRow } from './worth.ts'
import { isPruned, onSameWindows } from './worth-runs.ts'

/** Two values that differ by at most this share count as equal, whether they are costs or qualities. */
const equalShare = 0.01

export interface Worth extends Verdict {
  rows: WorthRow[]
  duels: Duel[]
  fronts: Front[]
}

/** Judges whether a model should be pruned, from its finished runs and those of its rivals (see `runsByModel`), at equal cost. */
export function worthOf(runs: readonly ComparedRun[], cost: Cost = fileSize): Worth {
  const { runs: done, own, strangers } = onSameWindows(runs.filter(({ status }) => status === 'done'))
  const groups = groupOverSeeds(done)
  const rows = groups.flatMap((group) => rowOf(group, cost, own))
  const seen = new Set(done.flatMap(seenTexts))
  const texts = [...new Map(done.flatMap(kindsOf))].map(([kind, used]) => {
    const decides = !used.some((text) => seen.has(text))
    return { kind, measure: 'perplexity' as const, decides, rows: frontOf(rows, kind, cost, 1) }
  })
  const tasks = [...new Map(done.flatMap(tasksOf))].map(([kind, measure]) => {
    return { kind, measure, decides: false, rows: frontOf(rows, kind, cost, -1) }
  })
  const deciding = texts.filter(({ decides }) => decides).map(({ kind }) => kind)
  const denseLoops = denseLoopsOf(groups.filter(({ runs: [first] }) => first?.model.id === own))
  const duels = rows
    .filter(({ pruned }) => pruned)
    .map((pruned) => duelOf(pruned, rows, { deciding, tasks: tasks.map(({ kind }) => kind), cost, denseLoops }))
  const unmeasured = groups.filter(({ measures }) => !measures.has(cost.id)).flatMap(({ runs: [first] }) => first?.file ?? [])
  return {
    rows,
    duels,
    fronts: [...texts, ...tasks],
    ...judge({ duels, dense: rows.filter((row) => !row.pruned), deciding, cost, unmeasured, strangers }),
  }
}

function rowOf({ runs, measures }: SeedGroup, { id }: Cost, own: string | undefined): WorthRow[] {
  const [first] = runs
  const cost = measures.get(id)
  if (!first || cost === undefined) return []
  const { weights } = first.parameters
  return [
    {
      runs: runs.map((run) => run.id),
      name: first.model.id === own ? first.file : `${first.model.name}, ${first.file}`,
      pruned: isPruned(first),
      method: first.method,
      repair: treatmentOf(first),
      weights: typeof weights === 'string' ? weights : null,
      cost: overSeeds(cost),
      quality: qualityOf(measures),
      loops: loopsOf(measures),
    },
  ]
}

const overSeeds = (measure: MeasureOverSeeds): Quality => ({ mean: measure.mean, error: standardError(measure) })

function qualityOf(measures: SeedGroup['measures']): Record<string, Quality> {
  const qualities = [...measures].flatMap(([id, summary]) => {
    const name = id.slice(0, id.indexOf('/'))
    return name === 'perplexity' || isTaskMeasure(name) ? [[id.slice(name.length + 1), overSeeds(summary)] as const] : []
  })
  return Object.fromEntries(qualities)
}

const loopsOf = (measures: SeedGroup['measures']): number | null =>
  [...measures].find(([id]) => id.startsWith(`${loopingMeasure}/`))?.[1].mean ?? null

/** Returns the share of looping answers of the dense model as computed, whatever its cost. Null if it is unknown. */
function denseLoopsOf(groups: readonly SeedGroup[]): number | null {
  const dense = groups.filter(({ runs: [first] }) => first && !isPruned(first) && first.parameters.weights === undefined)
  return dense.map(({ measures }) => loopsOf(measures)).find((share) => share !== null) ?? null
}

const tasksOf = ({ measures }: ComparedRun): [string, TaskMeasure][] =>
  measures.flatMap(({ name, dataset }): [string, TaskMeasure][] => (isTaskMeasure(name) ? [[dataset, name]] : []))

/**
 * Returns the corpora, and the hashes of windows, that calibration, repair, recovery or importances used. A recovery also reads `mixed`, to
 * choose which weights to keep. Importances use the calibration text, else `mixed`.
 */
function seenTexts({ parameters, calibration }: ComparedRun): string[] {
  const sources = ['calibration', 'repair.calibration', 'recover.text'].flatMap((name) => {
    const [source, mix] = [parameters[`${name}.source`], parameters[`${name}.mix`]]
    if (typeof mix === 'string') return (JSON.parse(mix) as { source: string }[]).map((part) => part.source)
    return typeof source === 'string' ? [source] : []
  })
  const readsMixed = parameters['recover.text.source'] !== undefined || (parameters.weights !== undefined && sources.length === 0)
  return [...(readsMixed ? [...sources, 'mixed'] : sources).map(corpusOf), ...(calibration ? hashesOf(calibration) : [])]
}

const hashesOf = ({ hash, parts = [] }: UsedData): string[] => [hash, ...parts.map((part) => part.hash)]

/** Returns the run's perplexities with the corpora and hashes of their texts. `evaluation` is in the order of the perplexities. */
function kindsOf({ measures, evaluation }: ComparedRun): [string, string[]][] {
  return measures
    .filter(({ name }) => name === 'perplexity')
    .map(({ dataset }, at) => {
      const used = evaluation[at]
      return [dataset, used ? [...corporaOf(used), ...hashesOf(used)] : [corpusOf(dataset)]]
    })
}

/** Returns the Pareto front of cost and one quality. `sign` is 1 if lower values of the quality are better, else -1. */
function frontOf(rows: readonly WorthRow[], kind: string, { lowerIsBetter }: Cost, sign: 1 | -1): WorthRow[] {
  const points = rows.flatMap((row) => {
    const quality = row.quality[kind]
    return quality ? [{ row, x: lowerIsBetter ? row.cost.mean : -row.cost.mean, y: sign * quality.mean }] : []
  })
  return paretoFront(points).map(({ row }) => row)
}

interface Judging {
  deciding: readonly string[]
  tasks: readonly string[]
  cost: Cost
  /** The dense model's share of looping answers; null if it is unknown. */
  denseLoops: number | null
}

function duelOf(pruned: WorthRow, rows: readonly WorthRow[], { deciding, tasks, cost, denseLoops }: Judging): Duel {
  const dense = rows.filter((row) => !row.pruned)
  const costsMore = (row: WorthRow) => compare(row.cost, pruned.cost) === (cost.lowerIsBetter ? 1 : -1)
  const able = dense.filter((row) => !costsMore(row) && deciding.every((kind) => row.quality[kind]))
  const rival = able.reduce<WorthRow | null>((best, row) => (best && level(best, deciding) <= level(row, deciding) ? best : row), null)
  const vetoed = pruned.loops !== null && denseLoops !== null && pruned.loops > denseLoops
  return {
    pruned,
    rival,
    worseTasks: tasks.filter((kind) => Object.hasOwn(everyTaskTitle, kind) && compare(pruned.quality[kind], rival?.quality[kind]) < 0),
    vetoed,
    loopsKnown: pruned.loops !== null && denseLoops !== null,
    outcome: rival ? outcomeOf(pruned, rival, deciding) : 'no rival',
  }
}

/** Returns the mean logarithm of the deciding perplexities. */
const level = ({ quality }: WorthRow, deciding: readonly string[]): number =>
  deciding.reduce((sum, kind) => sum + Math.log(quality[kind]?.mean ?? Number.POSITIVE_INFINITY), 0) / deciding.length

function outcomeOf(pruned: WorthRow, rival: WorthRow, deciding: readonly string[]): Duel['outcome'] {
  const signs = deciding.map((kind) => compare(pruned.quality[kind], rival.quality[kind]))
  const [better, worse] = [signs.includes(-1), signs.includes(1)]
  if (better && worse) return 'mixed'
  return better ? 'better' : worse ? 'worse' : 'tie'
}

/** Returns -1 if the first value is clearly lower, 1 if it is clearly higher, and 0 within twice the standard error or 1 %. */
function compare(own: Quality | undefined, other: Quality | undefined): number {
  if (!own || !other) return 0
  const noise = 2 * Math.hypot(own.error ?? 0, other.error ?? 0)
  const difference = own.mean - other.mean
  return Math.abs(difference) <= Math.max(noise, equalShare * other.mean) ? 0 : Math.sign(difference)
}
