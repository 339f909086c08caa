import { isTimed } from '../runs/time/speed.ts'
import { type Cost, costText } from './costs.ts'
import type { Duel, WorthRow } from './worth.ts'

const sentenceList = new Intl.ListFormat('en-GB')

export interface Verdict {
  answer: 'prune' | 'do not prune' | 'no difference' | 'unknown'
  /** The answer for users, with the numbers behind it. */
  sentence: string
  /** Questions that the runs cannot answer, one sentence each. */
  untested: string[]
}

/** What a verdict is based on. `deciding` are the kinds of text that no choice used, `unmeasured` the files whose cost is unknown. */
export interface Evidence {
  duels: readonly Duel[]
  dense: readonly WorthRow[]
  deciding: readonly string[]
  cost: Cost
  unmeasured: readonly string[]
  /** Names of other models with a perplexity that cannot be compared. */
  strangers: readonly string[]
}

/** Returns the answer with its sentence, and the questions that remain open. */
export function judge(evidence: Evidence): Verdict {
  return { ...answerOf(evidence), untested: gapsOf(evidence) }
}

function answerOf({ duels, dense, deciding, cost }: Evidence): Omit<Verdict, 'untested'> {
  if (duels.length === 0) return { answer: 'unknown', sentence: 'No verdict: no pruned file was measured.' }
  if (deciding.length === 0) return { answer: 'unknown', sentence: 'No verdict: pruning saw every text that was measured.' }
  const fought = duels.filter(({ rival, pruned }) => rival && isMeasured(deciding)(pruned))
  if (fought.length === 0) return { answer: 'unknown', sentence: aloneOf(duels, dense, deciding, cost) }
  const by = (outcome: Duel['outcome']) => sorted(fought, deciding).filter((duel) => duel.outcome === outcome)
  const [won, lost] = [by('better'), by('worse')]
  const clean = won.filter(({ vetoed }) => !vetoed)
  if (clean[0]) return { answer: 'prune', sentence: winOf(clean[0], `${clean.length} of ${fought.length}`, deciding, cost) }
  if (won[0]) return { answer: 'do not prune', sentence: vetoOf(won[0], deciding) }
  if (lost[0])
    return { answer: 'do not prune', sentence: lossOf(lost[0], lost.length === fought.length ? duels : [lost[0]], deciding, cost) }
  return { answer: 'no difference', sentence: tieOf(sorted(fought, deciding)[0] as Duel, deciding, cost) }
}

/** Sorted by the pruned file's perplexity on the first deciding text, best first. */
function sorted(duels: readonly Duel[], [kind = '']: readonly string[]): Duel[] {
  return [...duels].sort((a, b) => (a.pruned.quality[kind]?.mean ?? 0) - (b.pruned.quality[kind]?.mean ?? 0))
}

function winOf({ pruned, rival, worseTasks }: Duel, wins: string, deciding: readonly string[], cost: Cost): string {
  const dense = rival as WorthRow
  const win = `At ${costOf(pruned, cost)}, ${pruned.name} is better than ${dense.name}, the best dense file ${cost.equal} (${numbersOf(pruned, dense, deciding)}).`
  const share = ({ quality }: WorthRow, task: string) => `${Math.round(100 * (quality[task]?.mean ?? Number.NaN))} %`
  const lost = worseTasks.map((task) => `${task} (${share(pruned, task)} against ${share(dense, task)})`)
  return `${win}${lost.length > 0 ? ` But it does worse on ${sentenceList.format(lost)}.` : ''} Pruning wins for ${wins} pruned files.`
}

/** Files without one of the deciding texts cannot be rivals. */
const isMeasured =
  (deciding: readonly string[]) =>
  ({ quality }: WorthRow): boolean =>
    deciding.every((kind) => quality[kind])
const onEvery = 'measured on every text that decides'

/** Words the case that no dense file costs as little as a pruned one. Says what each side reaches. */
function aloneOf(duels: readonly Duel[], dense: readonly WorthRow[], deciding: readonly string[], cost: Cost): string {
  const able = dense.filter(isMeasured(deciding))
  const [cheapest] = [...able].sort((a, b) => (cost.lowerIsBetter ? a.cost.mean - b.cost.mean : b.cost.mean - a.cost.mean))
  if (!cheapest) return `No verdict: no dense file was ${onEvery}.`
  const best = sorted(duels, deciding).find(({ pruned }) => isMeasured(deciding)(pruned))?.pruned
  if (!best) return `No verdict: no pruned file was ${onEvery}.`
  const shown = deciding.map((kind) => `${shownValue(best, kind)} on ${kind}`).join(' and ')
  const files = able.length < dense.length ? `Dense files ${onEvery}` : 'Dense files'
  return `No verdict: no pruned file has a dense rival ${cost.equal}. ${files} stay at ${costOf(cheapest, cost)}; ${best.name} reaches ${costOf(best, cost)} (perplexity ${shown}, which pruning never saw).`
}

function lossOf({ pruned, rival }: Duel, duels: readonly Duel[], deciding: readonly string[], cost: Cost): string {
  const dense = rival as WorthRow
  const beats = (other: WorthRow) => deciding.every((kind) => (dense.quality[kind]?.mean ?? 0) < (other.quality[kind]?.mean ?? 0))
  const beaten = duels.length > 1 && duels.every((duel) => beats(duel.pruned)) ? everyFile(duels, cost) : pruned.name
  return `Do not prune. At ${costOf(dense, cost)}, ${dense.name} is better than ${beaten} (${numbersOf(dense, pruned, deciding)}).`
}

/** A smaller pruned file may lose too, but no dense file of its size was measured. */
const everyFile = (duels: readonly Duel[], { cheaper }: Cost): string =>
  duels.every(({ rival }) => rival) ? 'every pruned file' : `every pruned file, ${cheaper} ones without a rival included`

function vetoOf({ pruned, rival }: Duel, deciding: readonly string[]): string {
  const numbers = numbersOf(pruned, rival as WorthRow, deciding)
  const share = Math.round(100 * (pruned.loops ?? 0))
  return `Do not prune. ${pruned.name} has the lower perplexity (${numbers}), but ${share} % of its answers end in a loop, more than the dense model's.`
}

function tieOf({ pruned, rival, outcome }: Duel, deciding: readonly string[], cost: Cost): string {
  const numbers = numbersOf(pruned, rival as WorthRow, deciding)
  const how = outcome === 'mixed' ? 'each win on some texts' : 'do not differ clearly'
  return `At ${costOf(pruned, cost)}, ${pruned.name} and ${(rival as WorthRow).name} ${how} (${numbers}).`
}

function numbersOf(first: WorthRow, second: WorthRow, deciding: readonly string[]): string {
  const texts = deciding.map((kind) => `${shownValue(first, kind)} against ${shownValue(second, kind)} on ${kind}`)
  return `perplexity ${texts.join(' and ')}, which pruning never saw`
}

const shownValue = ({ quality }: WorthRow, kind: string): number => Number((quality[kind]?.mean ?? Number.NaN).toPrecision(3))

function gapsOf({ duels, dense, deciding, cost, unmeasured, strangers }: Evidence): string[] {
  const able = dense.filter(isMeasured(deciding))
  const alone = duels.filter(({ rival }) => !rival && able.length > 0).map(({ pruned }) => `${pruned.name} (${costOf(pruned, cost)})`)
  const file = able.length < dense.length ? `file ${onEvery}` : 'file'
  const silent = duels.filter(({ pruned }) => pruned.loops === null).map(({ pruned }) => pruned.name)
  const denseSilent = duels.some(({ pruned, loopsKnown }) => !loopsKnown && pruned.loops !== null)
  const apart = isTimed({ name: cost.id.split('/')[0] ?? '' }) && duels.some(({ rival }) => rival)
  return [
    ...(deciding.length === 0 ? ['No text was measured that pruning never saw.'] : []),
    ...(alone.length > 0 ? [`No dense ${file} is ${cost.least} ${alone.join('; ')}.`] : []),
    ...(silent.length > 0 ? [`Looping answers: not tested for ${silent.join('; ')}.`] : []),
    ...(denseSilent ? ['Looping answers: not tested for the dense model.'] : []),
    ...(apart ? ['Times were taken in different runs. The machine may have been busier in some.'] : []),
    ...strangers.map((name) => `${name} was measured on other tokens, so its perplexity does not count.`),
    ...(unmeasured.length > 0 ? [`${cost.title} is not known for: ${unmeasured.join('; ')}.`] : []),
  ]
}

const costOf = (row: WorthRow, cost: Cost): string => costText(row.cost.mean, cost) + cost.of
