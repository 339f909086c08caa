import type { TextSplit } from '../data/data-request.ts'
import { corpusOf } from '../data/source-name.ts'
import type { UsedData } from '../data/used-data.ts'
import { amountText } from '../runs/amount-text.ts'
import { denseMethod, everyTaskTitle, mixedBytes, weightText } from '../titles.ts'
import { loopingMeasure } from './answer-statistics.ts'
import { bitsMeasure, comparableSets, whyApartFrom, whyResultsApart } from './comparable.ts'
import type { ComparedRun } from './compared-run.ts'
import { type Cost, costAskedFor, costsOf, costText, fileSize, speedsAskedFor } from './costs.ts'
import { type Difference, differenceOf, differenceText } from './difference.ts'
import { isTaskMeasure, type TaskMeasure } from './measure-columns.ts'
import { paretoFront } from './pareto.ts'
import { groupOverSeeds, type MeasureOverSeeds, type SeedGroup, standardError } from './seeds.ts'
import { treatmentOf } from './series.ts'
import { type DecidingText, judge, type Verdict } from './verdict-sentence.ts'
import type { Duel, Front, Quality, TextDifference, WorthRow } from './worth.ts'
import { isPruned } from './worth-runs.ts'

/** Two costs that differ by at most this share count as equal. */
const equalCost = 0.01

export interface Worth extends Verdict {
  rows: WorthRow[]
  duels: Duel[]
  fronts: Front[]
}

/** One file with the runs that measured it. */
interface Entry {
  row: WorthRow
  group: SeedGroup
}

/** Returns the cost by which runs are judged unless another is asked for: a speed that one of them was asked to reach, else the file size. */
export const usualCost = (runs: readonly ComparedRun[]): Cost => costAskedFor(speedsAskedFor(runs), costsOf(runs, isPruned))

/** Judges whether a model should be pruned, from its finished runs and those of its rivals (see `runsByModel`), at equal cost. */
export function worthOf(runs: readonly ComparedRun[], cost: Cost = usualCost(runs)): Worth {
  const done = runs.filter(({ status }) => status === 'done')
  const subject = done.find(isPruned) ?? done[0]
  const groups = groupOverSeeds(done)
  const entries = groups.flatMap((group) => entryOf(group, cost, subject))
  const seen = Map.groupBy(done.flatMap(seenTexts), ({ key }) => key)
  const unseen = [...sourcesByKind(done)].map(([kind, own]) => ({
    kind,
    isUnseen: !own.some((text) => seen.get(text.key)?.some((other) => overlaps(text, other))),
    isOwn: own.some(({ split }) => split?.part === 'deciding'),
  }))
  const hasOwn = unseen.some(({ isUnseen, isOwn }) => isUnseen && isOwn)
  const texts = unseen.map(({ kind, isUnseen, isOwn }) => {
    const quality = { kind, name: 'perplexity', sign: 1 } as const
    const role = { decides: isUnseen && (isOwn || !hasOwn), elsewhere: isUnseen && hasOwn && !isOwn }
    return { kind, measure: 'perplexity' as const, ...role, ...frontOf(entries, quality, cost) }
  })
  const tasks = [...new Map(done.flatMap(tasksOf))].map(([kind, measure]) => {
    return { kind, measure, decides: false, elsewhere: false, ...frontOf(entries, { kind, name: measure, sign: -1 }, cost) }
  })
  const deciding = texts.filter(({ decides }) => decides).map(({ kind }) => kind)
  const shared = { tasks: tasks.map(({ kind, measure }) => ({ dataset: kind, name: measure })), cost }
  const duelsOn = (kinds: readonly string[]) =>
    entries.filter(({ row }) => row.pruned).map((pruned) => duelOf(pruned, entries, { ...shared, deciding: kinds }))
  const duels = duelsOn(deciding)
  const unmeasured = groups.filter(({ measures }) => !measures.has(cost.id)).flatMap(({ runs: [first] }) => first?.file ?? [])
  // Dense files whose types were chosen for each matrix, against those of one type.
  const plain = entries.filter(({ row }) => !isMixed(row.weights))
  const mixingOn = (kinds: readonly string[]) =>
    entries.filter(({ row }) => isMixed(row.weights) && !row.pruned).map((entry) => duelOf(entry, plain, { ...shared, deciding: kinds }))
  const rows = entries.map(({ row }) => row)
  const dense = rows.filter((row) => !row.pruned)
  const verdictOn = (kinds: readonly string[], own: readonly Duel[]) => {
    const read = kinds.flatMap((kind) => readOf(done, kind) ?? [])
    const clearly = clearlyBetter(entries, kinds)
    return judge({ duels: own, mixing: mixingOn(kinds), dense, deciding: kinds, texts: read, cost, unmeasured, clearly })
  }
  const elsewhere = texts.filter((text) => text.elsewhere).map(({ kind }) => kind)
  const own = verdictOn(deciding, duels)
  const verdict = withSource(own, againstSource({ groups, entries, subject, deciding, duels, file: own.file }))
  return {
    rows,
    duels,
    fronts: [...texts, ...tasks],
    ...(elsewhere.length > 0 ? bothVerdicts(deciding, verdict, elsewhere, verdictOn(elsewhere, duelsOn(elsewhere))) : verdict),
  }
}

/** What was read of a text: its windows, and if it is a part of a user's text, how many documents that part has. */
function readOf(runs: readonly ComparedRun[], kind: string): DecidingText | undefined {
  // Pruned runs first, because unpruned ones of other windows are left out.
  for (const { measures, evaluation } of runs.toSorted((a, b) => Number(isPruned(b)) - Number(isPruned(a)))) {
    const on = measures.find(({ name, dataset }) => name === 'perplexity' && dataset === kind)?.on
    if (on?.sequenceLength === undefined) continue
    const used = evaluation.find(({ hash }) => hash === on.hash)
    return { kind, windows: on.count, sequenceLength: on.sequenceLength, documents: used?.documents, passages: used?.passages }
  }
  return undefined
}

interface AgainstSource {
  groups: readonly SeedGroup[]
  entries: readonly Entry[]
  subject: ComparedRun | undefined
  deciding: readonly string[]
  duels: readonly Duel[]
  file: WorthRow | null
}

/**
 * Compares the file to take, or else the best pruned one, with the model that the user has: its size, and its perplexity on each text that
 * decides. Empty if they cannot be compared, or if a duel says it already.
 */
function againstSource({ groups, entries, subject, deciding, duels, file }: AgainstSource): string {
  const sources = groups.filter(({ runs: [run] }) => run && subject && isSourceOf(run, subject))
  const isOfSource = (one: WorthRow | null) => entries.some(({ row, group }) => row === one && sources.includes(group))
  const lossOf = ({ quality }: WorthRow) => quality[deciding[0] ?? '']?.mean ?? Number.POSITIVE_INFINITY
  const [best] = duels.toSorted((a, b) => lossOf(a.pruned) - lossOf(b.pruned))
  const row = file && !isOfSource(file) ? file : best?.pruned
  const group = entries.find((entry) => entry.row === row)?.group
  const isSaid = duels.some(({ pruned, rival }) => isOfSource(rival) && (pruned === row || isOfSource(file)))
  if (!row || !group || isSaid) return ''
  // The unpruned model may have been measured on other windows too, which tell nothing about this file.
  const compared = sources.map((source) => ({
    source,
    changes: deciding.flatMap((kind) => {
      const difference = differenceOf(group, source, { name: 'perplexity', dataset: kind })
      return difference ? [`on ${kind} ${higherText(difference)}`] : []
    }),
  }))
  const [{ source, changes } = { changes: [] }] = compared.toSorted((a, b) => b.changes.length - a.changes.length)
  const [own, other] = [group, source].map((one) => one?.measures.get(fileSize.id)?.mean)
  if (changes.length === 0 || own === undefined || other === undefined) return ''
  const [had, has] = [costText(other, fileSize), costText(own, fileSize)]
  const isNamed = row.name.includes(has)
  const [first, ...others] = changes
  const lead = isNamed ? `the perplexity of ${row.name}` : `${row.name} has ${has}, and its perplexity`
  return `Your unpruned model has ${had}; ${[`${lead} ${first}`, ...others].join(', and ')}.`
}

/** Whether a run measured the model that another one pruned, as the user has it. */
const isSourceOf = ({ method, model, lineage, parameters }: ComparedRun, pruned: ComparedRun): boolean =>
  method === denseMethod &&
  parameters.weights === undefined &&
  model.id === pruned.lineage.model &&
  !lineage.pruned &&
  lineage.content === pruned.lineage.content

/** `is 12 % higher, ×1.12 (1.08 to 1.16)`, from double on `is 2.5 times as high, …` */
function higherText(difference: Difference): string {
  const { value, clear } = difference
  const share = Number((100 * Math.abs(value - 1)).toPrecision(2))
  const times = value < 1000 ? Number(value.toPrecision(2)) : Math.round(value).toLocaleString('en')
  const change = value >= 2 ? `is ${times} times as high` : `is ${share} % ${value > 1 ? 'higher' : 'lower'}`
  return `${clear ? change : 'does not differ clearly'}, ${differenceText(difference)}`
}

function withSource(verdict: Verdict, sentence: string): Verdict {
  const [first, ...others] = verdict.parts
  if (!first || sentence === '') return verdict
  return { ...verdict, parts: [{ ...first, reasons: `${sentence} ${first.reasons}`.trim() }, ...others] }
}

/** Joins the verdict on the user's own text, which answers, with that on other text. */
function bothVerdicts(own: readonly string[], verdict: Verdict, others: readonly string[], other: Verdict): Verdict {
  const named = (name: string, { parts }: Verdict) =>
    parts.map(({ answer, sure, reasons }) => ({ answer: `${name}: ${answer}`, sure, reasons: reasons && `${name}: ${reasons}` }))
  const parts = [...named(`For your ${own.join(' and ')}`, verdict), ...named(`For other text (${others.join(' and ')})`, other)]
  return { ...verdict, parts, untested: [...new Set([...verdict.untested, ...other.untested])] }
}

const isMixed = (weights: string | null): boolean => weights !== null && mixedBytes(weights) !== undefined

function entryOf(group: SeedGroup, { id }: Cost, subject: ComparedRun | undefined): Entry[] {
  const { runs, measures } = group
  const [first] = runs
  const cost = measures.get(id)
  if (!first || cost === undefined) return []
  const weights = typeof first.parameters.weights === 'string' ? first.parameters.weights : null
  const row: WorthRow = {
    runs: runs.map((run) => run.id),
    name: sized(nameOf(first, subject), first, measures.get(fileSize.id)?.mean),
    pruned: isPruned(first),
    keptWhole: isPruned(first) && group.reached === 0 && isMixed(weights),
    method: first.method,
    repair: treatmentOf(first),
    weights,
    cost: overSeeds(cost),
    quality: qualityOf(measures, (name) => name === 'perplexity' || isTaskMeasure(name)),
    bits: qualityOf(measures, (name) => name === bitsMeasure),
    loops: loopsOf(measures),
  }
  return [{ row, group }]
}

/** Names a file, with its model if that is not the model that the verdict is about. */
function nameOf({ file, model, lineage, parameters: { weights } }: ComparedRun, subject: ComparedRun | undefined): string {
  if (lineage.pruned) return [model.name, ...(typeof weights === 'string' ? [weights] : [])].join(', ')
  if (lineage.model !== subject?.lineage.model) return `${model.name}, ${file}`
  return lineage.content === subject.lineage.content ? file : `${file} of the replaced ${model.name}`
}

/** Names a file that was made for a size by the size it has, so that no sentence has two sizes of one file. */
function sized(name: string, { parameters }: ComparedRun, bytes: number | undefined): string {
  const weights = typeof parameters.weights === 'string' ? parameters.weights : ''
  const asked = mixedBytes(weights) ?? parameters['amount.bytes']
  if (typeof asked !== 'number' || bytes === undefined) return name
  const size = costText(bytes, fileSize)
  const mixed = `mixed types (${size})`
  return name
    .replace(weightText(weights), (text) => (mixedBytes(weights) === undefined ? text : mixed))
    .replace(` ${amountText({ bytes: asked, format: 'gguf', type: 'F16' })}`, ` ${size}`)
}

const overSeeds = (measure: MeasureOverSeeds): Quality => ({
  mean: measure.mean,
  error: standardError(measure),
  factor: measure.factor,
})

function qualityOf(measures: SeedGroup['measures'], isWanted: (name: string) => boolean): Record<string, Quality> {
  const found = [...measures].flatMap(([id, summary]) => {
    const name = id.slice(0, id.indexOf('/'))
    return isWanted(name) ? [[id.slice(name.length + 1), overSeeds(summary)] as const] : []
  })
  return Object.fromEntries(found)
}

const loopsOf = (measures: SeedGroup['measures']): number | null =>
  [...measures].find(([id]) => id.startsWith(`${loopingMeasure}/`))?.[1].mean ?? null

const tasksOf = ({ measures }: ComparedRun): [string, TaskMeasure][] =>
  measures.flatMap(({ name, dataset }): [string, TaskMeasure][] => (isTaskMeasure(name) ? [[dataset, name]] : []))

/**
 * Returns the corpora, and the hashes of windows, that calibration, repair, recovery or importances used. A recovery also reads `mixed`, to
 * choose which weights to keep. Importances use the calibration text, else `mixed`.
 */
function seenTexts({ parameters, calibration }: ComparedRun): ReadText[] {
  const sources = ['calibration', 'repair.calibration', 'recover.text'].flatMap((name): Pick<ReadText, 'source' | 'split'>[] => {
    const [source, mix, part] = ['source', 'mix', 'split.part'].map((field) => parameters[`${name}.${field}`])
    if (typeof mix === 'string') return JSON.parse(mix) as Pick<ReadText, 'source' | 'split'>[]
    if (typeof source !== 'string') return []
    const split = { part, seed: parameters[`${name}.split.seed`] } as TextSplit
    return [{ source, ...(part === undefined ? {} : { split }) }]
  })
  const readsMixed = parameters['recover.text.source'] !== undefined || (parameters.weights !== undefined && sources.length === 0)
  const read = readsMixed ? [...sources, { source: 'mixed' }] : sources
  return [...read.map((text) => ({ ...text, key: corpusOf(text.source) })), ...(calibration ? hashesOf(calibration) : [])]
}

/** A text that was read, or a part of one, with what identifies it: its corpus, or the hash of its windows. */
interface ReadText {
  readonly key: string
  readonly source: string
  readonly split?: TextSplit | undefined
}

/** Whether two texts with the same key may share documents. The two parts of one text do not. */
function overlaps(one: ReadText, other: ReadText): boolean {
  const [own, its] = [one.split, other.split]
  return !(own && its && one.source === other.source && own.seed === its.seed && own.part !== its.part)
}

const hashesOf = ({ hash, source, parts = [] }: UsedData): ReadText[] =>
  [{ hash, source }, ...parts].map((part) => ({ key: part.hash, source: part.source }))

/** Returns the kinds of text that perplexity was measured on, each with the corpora and the hashes of windows of all runs. */
function sourcesByKind(runs: readonly ComparedRun[]): Map<string, ReadText[]> {
  const found = new Map<string, ReadText[]>()
  for (const { measures, evaluation } of runs)
    for (const { name, dataset, on } of measures) {
      if (name !== 'perplexity') continue
      const used = evaluation.find(({ hash }) => hash === on?.hash)
      const corpora = (used ? (used.parts ?? [used]) : [{ source: dataset }]).map((part) => ({ ...part, key: corpusOf(part.source) }))
      const sources = used ? [...corpora, ...hashesOf(used)] : corpora
      found.set(dataset, [...(found.get(dataset) ?? []), ...sources])
    }
  return found
}

interface Quantity {
  kind: string
  name: string
  /** 1 if lower values are better, else -1. */
  sign: 1 | -1
}

/** Returns the Pareto front of cost and one quality, of the files that can be compared with most pruned ones. */
function frontOf(entries: readonly Entry[], { kind, name, sign }: Quantity, { lowerIsBetter }: Cost): Pick<Front, 'rows' | 'apart'> {
  const column = { name, dataset: kind }
  // Pruned files first, so that files that could join several sets join theirs.
  const measured = entries.filter(({ row }) => row.quality[kind]).sort((a, b) => Number(b.row.pruned) - Number(a.row.pruned))
  const sets = comparableSets(
    measured.map((entry) => ({ ...entry, runs: entry.group.runs })),
    [column],
  )
  const weightOf = (set: (typeof sets)[number]) => set.filter(({ row }) => row.pruned).length * (entries.length + 1) + set.length
  const [shown = []] = [...sets].sort((a, b) => weightOf(b) - weightOf(a))
  const points = shown.map(({ row }) => ({
    row,
    x: lowerIsBetter ? row.cost.mean : -row.cost.mean,
    y: sign * (row.quality[kind]?.mean ?? Number.NaN),
  }))
  const apart = sets
    .filter((set) => set !== shown)
    .flat()
    .map(({ row, runs }) => ({ row, reason: whyApartFrom({ runs }, shown, [column]) }))
  return { rows: paretoFront(points).map(({ row }) => row), apart }
}

interface Judging {
  deciding: readonly string[]
  tasks: readonly { name: string; dataset: string }[]
  cost: Cost
}

function duelOf(pruned: Entry, entries: readonly Entry[], { deciding, tasks, cost }: Judging): Duel {
  const dense = entries.filter(({ row }) => !row.pruned)
  const costsMore = ({ row }: Entry) => compareCosts(row.cost, pruned.row.cost) === (cost.lowerIsBetter ? 1 : -1)
  const affordable = dense.filter((entry) => !costsMore(entry) && deciding.every((kind) => entry.row.quality[kind]))
  const able = affordable.filter((entry) => deciding.every((kind) => measureFor(pruned, entry, kind)))
  const rival = deciding.length === 0 ? undefined : bestOf(pruned, able, deciding)
  const texts = rival ? deciding.flatMap((kind) => textDifference(pruned, rival, kind)) : []
  const loops = rival ? loopDifference(pruned, rival) : null
  return {
    pruned: pruned.row,
    rival: rival?.row ?? null,
    outcome: rival ? outcomeOf(texts) : 'no rival',
    texts,
    worseTasks: tasks.flatMap((task) => (rival && isWorse(pruned, rival, task) ? [task.dataset] : [])),
    loops,
    vetoed: loops?.clear === true && loops.value > 0,
    leftOut: dense.flatMap((entry) => {
      const reason = deciding.map((kind) => whyNoMeasure(pruned, entry, kind)).find((one) => one !== null)
      return reason === undefined ? [] : [{ name: entry.row.name, reason }]
    }),
  }
}

/** The measure that two files can be compared by on a text: perplexity on the same windows, else bits per byte. */
function measureFor(one: Entry, other: Entry, kind: string): TextDifference['measure'] | undefined {
  const names = ['perplexity', bitsMeasure] as const
  return names.find((name) => {
    const has = ({ row }: Entry) => (name === 'perplexity' ? row.quality[kind] : row.bits[kind])
    return has(one) && has(other) && whyResultsApart(one.group, other.group, [{ name, dataset: kind }]) === null
  })
}

/** Why a dense file cannot be compared with a pruned one on a text that both were measured on; null if it can. */
function whyNoMeasure(pruned: Entry, dense: Entry, kind: string): string | null {
  if (!pruned.row.quality[kind] || !dense.row.quality[kind] || measureFor(pruned, dense, kind)) return null
  return whyResultsApart(dense.group, pruned.group, [{ name: 'perplexity', dataset: kind }])
}

/** The file with the lowest loss on the deciding texts: in bits per byte if all have them, since tokenizers may differ. */
function bestOf(pruned: Entry, able: readonly Entry[], deciding: readonly string[]): Entry | undefined {
  const haveBits = able.every(({ row }) => deciding.every((kind) => row.bits[kind]))
  const ranked = haveBits ? able : able.filter((entry) => deciding.every((kind) => measureFor(pruned, entry, kind) === 'perplexity'))
  const lossOf = ({ row }: Entry, kind: string) =>
    haveBits ? (row.bits[kind]?.mean ?? Number.NaN) : Math.log(row.quality[kind]?.mean ?? Number.NaN)
  const level = (entry: Entry) => deciding.reduce((sum, kind) => sum + lossOf(entry, kind), 0)
  return [...ranked].sort((a, b) => level(a) - level(b))[0]
}

function textDifference(one: Entry, other: Entry, kind: string): TextDifference[] {
  const measure = measureFor(one, other, kind)
  return measure ? [{ kind, measure, difference: differenceOf(one.group, other.group, { name: measure, dataset: kind }) }] : []
}

function outcomeOf(texts: readonly TextDifference[]): Duel['outcome'] {
  const signs = texts.map(({ difference }) => signOf(difference))
  const [better, worse] = [signs.includes(-1), signs.includes(1)]
  if (better && worse) return 'mixed'
  return better ? 'better' : worse ? 'worse' : 'tie'
}

/** Returns -1 if the first is clearly lower, 1 if it is clearly higher, else 0. */
function signOf(difference: TextDifference['difference']): number {
  if (!difference?.clear) return 0
  return Math.sign(difference.value - (difference.factor ? 1 : 0))
}

function loopDifference(pruned: Entry, rival: Entry): Duel['loops'] {
  const datasets = [...pruned.group.measures.keys()].flatMap((id) =>
    id.startsWith(`${loopingMeasure}/`) ? [id.slice(loopingMeasure.length + 1)] : [],
  )
  return datasets.map((dataset) => differenceOf(pruned.group, rival.group, { name: loopingMeasure, dataset })).find((one) => one) ?? null
}

function isWorse(pruned: Entry, rival: Entry, task: { name: string; dataset: string }): boolean {
  if (!Object.hasOwn(everyTaskTitle, task.dataset)) return false
  return signOf(differenceOf(pruned.group, rival.group, task)) < 0
}

/** Returns a function that says whether a dense file is clearly better than a pruned one on every deciding text. */
function clearlyBetter(entries: readonly Entry[], deciding: readonly string[]) {
  const entryOfRow = new Map(entries.map((entry) => [entry.row, entry]))
  return (dense: WorthRow, pruned: WorthRow): boolean => {
    const [one, other] = [entryOfRow.get(dense), entryOfRow.get(pruned)]
    if (!one || !other) return false
    const texts = deciding.flatMap((kind) => textDifference(one, other, kind))
    return texts.length === deciding.length && texts.every(({ difference }) => signOf(difference) < 0)
  }
}

/** Returns -1 if the first cost is lower, 1 if it is higher, and 0 within twice the standard error or 1 %. */
function compareCosts(own: Quality, other: Quality): number {
  const noise = 2 * Math.hypot(own.error ?? 0, other.error ?? 0)
  const difference = own.mean - other.mean
  return Math.abs(difference) <= Math.max(noise, equalCost * other.mean) ? 0 : Math.sign(difference)
}
