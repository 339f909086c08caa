import { corporaOf, corpusOf } from '../data/corpus.ts'
import type { UsedData } from '../data/used-data.ts'
import { denseMethod } from '../titles.ts'
import { loopingMeasure } from './answer-statistics.ts'
import type { ComparedRun } from './compare.ts'
import { groupOverSeeds, paretoFront, type SeedGroup } from './comparison.ts'
import { judge, type Verdict } from './verdict-sentence.ts'
import type { Duel, Quality, WorthRow } from './worth.ts'

/** Share by which a dense file may be larger than its pruned rival, and below which qualities are equal. */
const tolerance = 0.01

export interface Worth extends Verdict {
  rows: WorthRow[]
  duels: Duel[]
  /** The Pareto front of bytes and perplexity for each kind of text. `decides` if no choice saw that text. */
  fronts: { kind: string; decides: boolean; rows: WorthRow[] }[]
}

/** Whether to prune, from the finished runs of one model. */
export function worthOf(runs: readonly ComparedRun[]): Worth {
  const done = runs.filter(({ status }) => status === 'done')
  const rows = groupOverSeeds(done).flatMap(rowOf)
  const seen = new Set(done.flatMap(seenTexts))
  const kinds = new Map(done.flatMap(kindsOf))
  const fronts = [...kinds].map(([kind, texts]) => ({ kind, decides: !texts.some((text) => seen.has(text)), rows: frontOf(rows, kind) }))
  const deciding = fronts.filter(({ decides }) => decides).map(({ kind }) => kind)
  const duels = rows.filter(({ pruned }) => pruned).map((pruned) => duelOf(pruned, rows, deciding))
  return { rows, duels, fronts, ...judge(duels, deciding) }
}

function rowOf({ runs, measures }: SeedGroup): WorthRow[] {
  const [first] = runs
  const bytes = measures.get('size')?.mean
  if (!first || bytes === undefined) return []
  const { weights } = first.parameters
  return [
    {
      runs: runs.map(({ id }) => id),
      name: first.file,
      pruned: first.method !== denseMethod,
      weights: typeof weights === 'string' ? weights : null,
      bytes,
      quality: qualityOf(measures),
      loops: [...measures].find(([id]) => id.startsWith(`${loopingMeasure}/`))?.[1].mean ?? null,
    },
  ]
}

/** A spread over seeds becomes the standard error of their mean. A single run's spread is one already. */
function qualityOf(measures: SeedGroup['measures']): Record<string, Quality> {
  const found = [...measures].filter(([id]) => id.startsWith('perplexity/'))
  return Object.fromEntries(
    found.map(([id, { mean, spread, count }]) => [
      id.slice('perplexity/'.length),
      { mean, error: spread === null ? null : spread / Math.sqrt(count) },
    ]),
  )
}

/** Corpora, and hashes of windows, that calibration, repair, recovery or importances looked at. Importances use the calibration's, else `mixed`. */
function seenTexts({ parameters, calibration }: ComparedRun): string[] {
  const asked = ['calibration', 'repair.calibration', 'recover.text'].flatMap((name) => {
    const [source, mix] = [parameters[`${name}.source`], parameters[`${name}.mix`]]
    if (typeof mix === 'string') return (JSON.parse(mix) as { source: string }[]).map((part) => part.source)
    return typeof source === 'string' ? [source] : []
  })
  const hidden = parameters['recover.text.source'] !== undefined || (parameters.weights !== undefined && asked.length === 0)
  return [...(hidden ? [...asked, 'mixed'] : asked).map(corpusOf), ...(calibration ? hashesOf(calibration) : [])]
}

const hashesOf = ({ hash, parts = [] }: UsedData): string[] => [hash, ...parts.map((part) => part.hash)]

/** The run's perplexities with the corpora and hashes of their texts. `evaluation` is in the order of the perplexities. */
function kindsOf({ measures, evaluation }: ComparedRun): [string, string[]][] {
  return measures
    .filter(({ name }) => name === 'perplexity')
    .map(({ dataset }, at) => {
      const used = evaluation[at]
      return [dataset, used ? [...corporaOf(used), ...hashesOf(used)] : [corpusOf(dataset)]]
    })
}

function frontOf(rows: readonly WorthRow[], kind: string): WorthRow[] {
  const points = rows.flatMap((row) => (row.quality[kind] ? [{ row, x: row.bytes, y: row.quality[kind].mean }] : []))
  return paretoFront(points).map(({ row }) => row)
}

function duelOf(pruned: WorthRow, rows: readonly WorthRow[], deciding: readonly string[]): Duel {
  const dense = rows.filter((row) => !row.pruned)
  const small = dense.filter(({ bytes, quality }) => bytes <= pruned.bytes * (1 + tolerance) && deciding.every((kind) => quality[kind]))
  const rival = small.reduce<WorthRow | null>((best, row) => (best && level(best, deciding) <= level(row, deciding) ? best : row), null)
  const calm = dense.find(({ weights, loops }) => weights === null && loops !== null)?.loops ?? null
  const vetoed = pruned.loops !== null && calm !== null && pruned.loops > calm
  return { pruned, rival, vetoed, outcome: rival ? outcomeOf(pruned, rival, deciding) : 'no rival' }
}

/** Mean logarithm of the deciding perplexities. */
const level = ({ quality }: WorthRow, deciding: readonly string[]): number =>
  deciding.reduce((sum, kind) => sum + Math.log(quality[kind]?.mean ?? Number.POSITIVE_INFINITY), 0) / deciding.length

function outcomeOf(pruned: WorthRow, rival: WorthRow, deciding: readonly string[]): Duel['outcome'] {
  const signs = deciding.map((kind) => compare(pruned.quality[kind], rival.quality[kind]))
  const [better, worse] = [signs.includes(-1), signs.includes(1)]
  if (better && worse) return 'mixed'
  return better ? 'better' : worse ? 'worse' : 'tie'
}

/** -1 if the first perplexity is clearly lower, 1 if clearly higher, 0 within twice the standard error or 1 %. */
function compare(own: Quality | undefined, other: Quality | undefined): number {
  if (!own || !other) return 0
  const noise = 2 * Math.hypot(own.error ?? 0, other.error ?? 0)
  const difference = own.mean - other.mean
  return Math.abs(difference) <= Math.max(noise, tolerance * other.mean) ? 0 : Math.sign(difference)
}
