import type { Duel, WorthRow } from './worth.ts'

export interface Verdict {
  answer: 'prune' | 'do not prune' | 'no difference' | 'unknown'
  /** For users, with its numbers. */
  sentence: string
  /** What the runs cannot answer, one sentence each. */
  untested: string[]
}

/** The answer and its sentence, from all pruned files and the kinds of text that no choice saw. */
export function judge(duels: readonly Duel[], deciding: readonly string[]): Verdict {
  const untested = gapsOf(duels, deciding)
  return { ...answerOf(duels, deciding), untested }
}

function answerOf(duels: readonly Duel[], deciding: readonly string[]): Omit<Verdict, 'untested'> {
  if (duels.length === 0) return { answer: 'unknown', sentence: 'No verdict: no pruned file was measured.' }
  if (deciding.length === 0) return { answer: 'unknown', sentence: 'No verdict: a choice saw every text that was measured.' }
  const fought = duels.filter(({ rival, pruned }) => rival && deciding.every((kind) => pruned.quality[kind]))
  if (fought.length === 0) return { answer: 'unknown', sentence: 'No verdict: no pruned file has a dense rival of its size.' }
  const by = (outcome: Duel['outcome']) => sorted(fought, deciding).filter((duel) => duel.outcome === outcome)
  const [won, lost] = [by('better'), by('worse')]
  const clean = won.filter(({ vetoed }) => !vetoed)
  if (clean[0]) return { answer: 'prune', sentence: winOf(clean[0], clean.length, fought.length, deciding) }
  if (won[0]) return { answer: 'do not prune', sentence: vetoOf(won[0], deciding) }
  if (lost[0]) return { answer: 'do not prune', sentence: lossOf(lost[0], lost.length === fought.length ? duels : [lost[0]], deciding) }
  return { answer: 'no difference', sentence: tieOf(sorted(fought, deciding)[0] as Duel, deciding) }
}

/** By the perplexity of the pruned file on the first deciding text, best first. */
function sorted(duels: readonly Duel[], [kind = '']: readonly string[]): Duel[] {
  return [...duels].sort((a, b) => (a.pruned.quality[kind]?.mean ?? 0) - (b.pruned.quality[kind]?.mean ?? 0))
}

function winOf({ pruned, rival }: Duel, wins: number, of: number, deciding: readonly string[]): string {
  const numbers = numbersOf(pruned, rival as WorthRow, deciding)
  return `At ${megabytes(pruned)}, ${pruned.name} is better than ${(rival as WorthRow).name}, the best dense file of its size (${numbers}). Pruning wins for ${wins} of ${of} pruned files.`
}

function lossOf({ pruned, rival }: Duel, duels: readonly Duel[], deciding: readonly string[]): string {
  const dense = rival as WorthRow
  const beats = (other: WorthRow) => deciding.every((kind) => (dense.quality[kind]?.mean ?? 0) < (other.quality[kind]?.mean ?? 0))
  const beaten = duels.length > 1 && duels.every((duel) => beats(duel.pruned)) ? everyFile(duels) : pruned.name
  return `Do not prune. At ${megabytes(dense)}, ${dense.name} is better than ${beaten} (${numbersOf(dense, pruned, deciding)}).`
}

/** A smaller pruned file may lose too, but no dense file of its size was measured. */
const everyFile = (duels: readonly Duel[]): string =>
  duels.every(({ rival }) => rival) ? 'every pruned file' : 'every pruned file, smaller ones without a rival included'

function vetoOf({ pruned, rival }: Duel, deciding: readonly string[]): string {
  const numbers = numbersOf(pruned, rival as WorthRow, deciding)
  const share = Math.round(100 * (pruned.loops ?? 0))
  return `Do not prune. ${pruned.name} has the lower perplexity (${numbers}), but ${share} % of its answers end in a loop, more than the dense model's.`
}

function tieOf({ pruned, rival, outcome }: Duel, deciding: readonly string[]): string {
  const numbers = numbersOf(pruned, rival as WorthRow, deciding)
  const how = outcome === 'mixed' ? 'each win on some texts' : 'do not differ clearly'
  return `At ${megabytes(pruned)}, ${pruned.name} and ${(rival as WorthRow).name} ${how} (${numbers}).`
}

function numbersOf(first: WorthRow, second: WorthRow, deciding: readonly string[]): string {
  const show = (row: WorthRow, kind: string) => Number((row.quality[kind]?.mean ?? Number.NaN).toPrecision(3))
  const texts = deciding.map((kind) => `${show(first, kind)} against ${show(second, kind)} on ${kind}`)
  return `perplexity ${texts.join(' and ')}, text no choice saw`
}

function gapsOf(duels: readonly Duel[], deciding: readonly string[]): string[] {
  const alone = duels.filter(({ rival }) => !rival).map(({ pruned }) => `${pruned.name} (${megabytes(pruned)})`)
  const silent = duels.filter(({ pruned }) => pruned.loops === null).map(({ pruned }) => pruned.name)
  return [
    ...(deciding.length === 0 ? ['No text was measured that no choice saw.'] : []),
    ...(alone.length > 0 ? [`No dense file is as small as ${alone.join(', ')}.`] : []),
    ...(silent.length > 0 ? [`Whether answers loop is not known for ${silent.join(', ')}.`] : []),
  ]
}

const megabytes = ({ bytes }: WorthRow): string => `${Number((bytes / 1e6).toPrecision(3))} MB`
