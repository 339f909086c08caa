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
export function whyApart(one: Comparable, other: Comparable, measure: MeasureRef): string | null {
  const [own, others] = [measureOf(one, measureId(measure)), measureOf(other, measureId(measure))]
  if (!own || !others) return null
  if (isReplaced(one, other)) return 'its model was replaced in between'
  const isText = isPerToken(measure.name) || measure.name === bitsMeasure
  if (!own.on || !others.on) return isText || own.on || others.on ? 'what it was measured on is not known' : null
  const [here, there] = [own.on, others.on]
  if (here.precision !== there.precision) return here.precision ? `computed in ${here.precision}` : `not computed in ${there.precision}`
  if (here.vocabulary !== there.vocabulary) return 'its tokens are those of another vocabulary'
  const isSame = here.hash === there.hash && begins(here) === begins(there)
  // Equal ids may be cut into windows of other lengths.
  if (isSame && here.count === there.count && here.sequenceLength === there.sequenceLength) return null
  if (measure.name === bitsMeasure && one.lineage.model !== other.lineage.model) return whyOtherText(here, there)
  if (begins(here) !== begins(there)) return begins(here) ? 'its windows begin with BOS' : 'its windows do not begin with BOS'
  if (!isText) return measure.name === loopingMeasure ? 'answered other prompts' : 'answered other questions'
  return whyOtherShape(here, there) ?? (one.lineage.model === other.lineage.model ? 'measured on other text' : 'measured on other tokens')
}

/** Whether both used one library entry, or descend from one, whose files were replaced in between. */
function isReplaced(one: Comparable, other: Comparable): boolean {
  if (one.model.id === other.model.id && one.fingerprint !== other.fingerprint) return true
  return one.lineage.model === other.lineage.model && one.lineage.content !== other.lineage.content
}

const begins = ({ beginToken = false }: MeasuredOn): boolean => beginToken

function whyOtherText(here: MeasuredOn, there: MeasuredOn): string | null {
  if (here.text === undefined || here.text !== there.text) return 'measured on other text'
  return whyOtherShape(here, there)
}

function whyOtherShape(here: MeasuredOn, there: MeasuredOn): string | null {
  if (here.count === there.count && here.sequenceLength === there.sequenceLength) return null
  return `measured on ${shapeOf(here)}, not ${shapeOf(there)}`
}

const shapeOf = ({ count, sequenceLength = 0 }: MeasuredOn): string =>
  `${count} ${count === 1 ? 'window' : 'windows'} of ${sequenceLength.toLocaleString('en')} tokens`

/** One thing that is compared: a run, or several that differ in the seed only and may be compared with each other. */
interface Compared {
  readonly runs: readonly Comparable[]
}

/** The same for two results of one or several runs, by several measures. */
export function whyResultsApart(one: Compared, other: Compared, measures: readonly MeasureRef[]): string | null {
  for (const measure of measures) {
    const own = one.runs.find((run) => measureOf(run, measureId(measure)))
    const others = other.runs.find((run) => measureOf(run, measureId(measure)))
    const reason = own && others ? whyApart(own, others, measure) : null
    if (reason !== null) return reason
  }
  return null
}

/**
 * Divides results into sets whose members may all be compared with each other. The first set has the first result. One member of each kind
 * speaks for the others of its kind, so that hundreds of results take no time.
 */
export function comparableSets<Result extends Compared>(results: readonly Result[], measures: readonly MeasureRef[]): Result[][] {
  const sets: { members: Result[]; kinds: Result[] }[] = []
  for (const own of byKind(results, measures)) {
    const [first] = own as [Result]
    const set = sets.find(({ kinds }) => kinds.every((member) => whyResultsApart(first, member, measures) === null))
    if (set) {
      set.members.push(...own)
      set.kinds.push(first)
    } else sets.push({ members: own, kinds: [first] })
  }
  return sets.map(({ members }) => members)
}

/** For all results of one kind (`own`), everything that they may be compared with, themselves included. */
export function rivalSets<Result extends Compared>(
  results: readonly Result[],
  measures: readonly MeasureRef[],
): { own: Result[]; rivals: Result[] }[] {
  const kinds = byKind(results, measures)
  return kinds.map((own) => {
    const isRival = ([other]: Result[]) => whyResultsApart(own[0] as Result, other as Result, measures) === null
    return { own, rivals: kinds.filter((other) => other === own || isRival(other)).flat() }
  })
}

/** Groups results that are alike in everything that decides what they may be compared with. */
function byKind<Result extends Compared>(results: readonly Result[], measures: readonly MeasureRef[]): Result[][] {
  const kindOf = ({ runs }: Result) => {
    const taken = measures.map((measure) => runs.map((run) => measureOf(run, measureId(measure))).find((found) => found))
    return JSON.stringify([
      runs[0]?.model.id,
      runs[0]?.fingerprint,
      runs[0]?.lineage,
      taken.map((found) => found && (found.on ?? 'unknown')),
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
  return 'apart from some of the others'
}

/** How the sentences begin that say what is left out. */
export const notCompared = 'Not compared with the others'

/** How many names a sentence lists. */
const namesShown = 3

/** Says which results are not compared with those of the first set, and why: one sentence for each reason. Empty if all are compared. */
export function apartTexts<Result extends Compared>(
  [first = [], ...others]: readonly (readonly Result[])[],
  measures: readonly MeasureRef[],
  nameOf: (result: Result) => string,
): string[] {
  const found = others.flat().map((result) => {
    return { name: nameOf(result), reason: whyApartFrom(result, first, measures) }
  })
  return [...Map.groupBy(found, ({ reason }) => reason)].map(([reason, own]) => {
    const names = own.slice(0, namesShown).map(({ name }) => name)
    const more = own.length > namesShown ? ` and ${own.length - namesShown} more` : ''
    return `${notCompared}: ${names.join('; ')}${more} (${reason}).`
  })
}
