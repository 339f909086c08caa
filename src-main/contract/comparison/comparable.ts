import { windowsText } from '../data/used-data.ts'
import type { MeasuredOn } from '../runs/measures.ts'
import type { RunEntry } from '../runs/runs.ts'
import { loopingMeasure } from './answer-statistics.ts'
import { measureId, measureOf } from './measure-columns.ts'

/** What must be known of a run to compare its numbers. */
export type Comparable = Pick<RunEntry, 'model' | 'fingerprint' | 'lineage' | 'measures'>

interface MeasureRef {
  readonly name: string
  readonly dataset: string
}

/** Bits per byte does not depend on the tokenizer, so it compares models that read a text as different tokens. */
export const bitsMeasure = 'bits per byte'

/** Whether a measure is a mean over tokens, so that its value depends on the tokenizer. */
export const isPerToken = (measure: string): boolean => measure.startsWith('perplexity')

/**
 * Decides whether the numbers of two runs may be compared. Verdicts, best marks, differences, tables, charts, groups and reports all ask
 * this function, and nothing else decides it. Numbers may be compared if
 *
 * - no model was replaced in between: equal library entries and equal dense ancestors have equal content;
 * - they were taken on the same windows, prompts or questions, and windows begin alike;
 * - both are as exact as float32's, or both were computed in bfloat16;
 * - means over tokens are over tokens of one vocabulary, with the same rows removed.
 *
 * Bits per byte also compares different models whose windows hold the same text as other tokens, if they are equally many and long.
 *
 * Returns null if they may be compared, else what sets the first run apart, such as `measured on other text`.
 */
export function whyApart(first: Comparable, second: Comparable, measure: MeasureRef): string | null {
  const [firstMeasure, secondMeasure] = [measureOf(first, measureId(measure)), measureOf(second, measureId(measure))]
  if (!firstMeasure || !secondMeasure) return null
  if (isReplaced(first, second)) return 'its model was replaced in between'
  const isText = isPerToken(measure.name) || measure.name === bitsMeasure
  const [firstOn, secondOn] = [firstMeasure.on, secondMeasure.on]
  if (!firstOn || !secondOn) return isText || firstOn || secondOn ? 'what it was measured on is not known' : null
  if (firstOn.precision !== secondOn.precision)
    return firstOn.precision ? `computed in ${firstOn.precision}` : `not computed in ${secondOn.precision}`
  if (firstOn.vocabulary !== secondOn.vocabulary) return 'its tokens are those of another vocabulary'
  const isSame = firstOn.hash === secondOn.hash && begins(firstOn) === begins(secondOn)
  // Equal ids may be cut into windows of other lengths.
  if (isSame && firstOn.count === secondOn.count && firstOn.sequenceLength === secondOn.sequenceLength) return null
  const hasSameModel = first.lineage.model === second.lineage.model
  if (measure.name === bitsMeasure && !hasSameModel) return whyOtherText(firstOn, secondOn)
  if (begins(firstOn) !== begins(secondOn)) return begins(firstOn) ? 'its windows begin with BOS' : 'its windows do not begin with BOS'
  if (!isText) return measure.name === loopingMeasure ? 'answered other prompts' : 'answered other questions'
  return whyOtherShape(firstOn, secondOn) ?? (hasSameModel ? 'measured on other text' : 'measured on other tokens')
}

/** Whether both used one library entry, or descend from one, whose files were replaced in between. */
function isReplaced(first: Comparable, second: Comparable): boolean {
  if (first.model.id === second.model.id && first.fingerprint !== second.fingerprint) return true
  return first.lineage.model === second.lineage.model && first.lineage.content !== second.lineage.content
}

const begins = ({ beginToken = false }: MeasuredOn): boolean => beginToken

function whyOtherText(first: MeasuredOn, second: MeasuredOn): string | null {
  if (first.text === undefined || first.text !== second.text) return 'measured on other text'
  return whyOtherShape(first, second)
}

function whyOtherShape(first: MeasuredOn, second: MeasuredOn): string | null {
  if (first.count === second.count && first.sequenceLength === second.sequenceLength) return null
  const textOf = ({ count, sequenceLength = 0 }: MeasuredOn) => windowsText(count, sequenceLength)
  return `measured on ${textOf(first)}, not ${textOf(second)}`
}

/** One thing that is compared: a run, or several that differ in the seed only and may be compared with each other. */
interface Compared {
  readonly runs: readonly Comparable[]
}

/** The same for two results of one or several runs, by several measures. */
export function whyResultsApart(first: Compared, second: Compared, measures: readonly MeasureRef[]): string | null {
  for (const measure of measures) {
    const measuredRun = ({ runs }: Compared) => runs.find((run) => measureOf(run, measureId(measure)))
    const [firstRun, secondRun] = [measuredRun(first), measuredRun(second)]
    const reason = firstRun && secondRun ? whyApart(firstRun, secondRun, measure) : null
    if (reason !== null) return reason
  }
  return null
}

/**
 * Divides results into sets whose members may all be compared with each other. The first set has the first result. Only one member of each
 * kind is compared; the others would give the same answer.
 */
export function comparableSets<Result extends Compared>(results: readonly Result[], measures: readonly MeasureRef[]): Result[][] {
  const sets: { members: Result[]; kinds: Result[] }[] = []
  for (const kind of byKind(results, measures)) {
    const [first] = kind as [Result]
    const set = sets.find(({ kinds }) => kinds.every((member) => whyResultsApart(first, member, measures) === null))
    if (set) {
      set.members.push(...kind)
      set.kinds.push(first)
    } else sets.push({ members: kind, kinds: [first] })
  }
  return sets.map(({ members }) => members)
}

/** For all results of one kind, everything that they may be compared with, themselves included. */
export function rivalSets<Result extends Compared>(
  results: readonly Result[],
  measures: readonly MeasureRef[],
): { results: Result[]; rivals: Result[] }[] {
  const kinds = byKind(results, measures)
  return kinds.map((kind) => {
    const isRival = ([other]: Result[]) => whyResultsApart(kind[0] as Result, other as Result, measures) === null
    return { results: kind, rivals: kinds.filter((other) => other === kind || isRival(other)).flat() }
  })
}

/** Groups results that are alike in everything that decides what they may be compared with. */
function byKind<Result extends Compared>(results: readonly Result[], measures: readonly MeasureRef[]): Result[][] {
  const kindOf = ({ runs }: Result) => {
    const taken = measures.map((measure) => runs.map((run) => measureOf(run, measureId(measure))).find(Boolean))
    return JSON.stringify([
      runs[0]?.model.id,
      runs[0]?.fingerprint,
      runs[0]?.lineage,
      taken.map((summary) => summary && (summary.on ?? 'unknown')),
    ])
  }
  return [...Map.groupBy(results, kindOf).values()]
}

/** Why a result is in another set: the first reason that one of the set's members gives. */
export function whyApartFrom(result: Compared, set: readonly Compared[], measures: readonly MeasureRef[]): string {
  for (const member of set) {
    const reason = whyResultsApart(result, member, measures)
    if (reason !== null) return reason
  }
  return 'cannot be compared with some of the others'
}

/** How many names a sentence lists. */
const namesShown = 3

/** Names the results that are not compared with those of the first set, by reason: `2SSP 25 %; 2SSP 50 % (measured on other text)`. */
export function apartResults<Result extends Compared>(
  [first = [], ...others]: readonly (readonly Result[])[],
  measures: readonly MeasureRef[],
  nameOf: (result: Result) => string,
): string[] {
  const apart = others.flat().map((result) => {
    return { name: nameOf(result), reason: whyApartFrom(result, first, measures) }
  })
  return [...Map.groupBy(apart, ({ reason }) => reason)].map(([reason, results]) => {
    const names = results.slice(0, namesShown).map(({ name }) => name)
    const more = results.length > namesShown ? ` and ${results.length - namesShown} more` : ''
    return `${names.join('; ')}${more} (${reason})`
  })
}

/** The sentence on results of `apartResults`, with the measures by which they are not compared if a table has several. */
export const apartText = (results: string, measures: readonly string[] = []): string =>
  `Not compared with the others${measures.length > 0 ? ` by ${measures.join(', ')}` : ''}: ${results}.`

/** Says which results are not compared with those of the first set, and why: one sentence for each reason. Empty if all are compared. */
export const apartTexts = <Result extends Compared>(
  sets: readonly (readonly Result[])[],
  measures: readonly MeasureRef[],
  nameOf: (result: Result) => string,
): string[] => apartResults(sets, measures, nameOf).map((results) => apartText(results))
