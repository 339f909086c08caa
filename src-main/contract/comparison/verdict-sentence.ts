import { windowsText } from '../data/used-data.ts'
import { isTimed } from '../runs/time/speed.ts'
import { plural, upperFirst } from '../words.ts'
import { type Cost, costText, fileSize } from './costs.ts'
import { basisText, type Difference, differenceText, inverse } from './difference.ts'
import { studentQuantile } from './statistics.ts'
import type { Duel, TextDifference, WorthRow } from './worth.ts'

const sentenceList = new Intl.ListFormat('en-GB')

/**
 * One sentence that answers, at most two that say how sure it is or what would give a verdict, and everything else. Only `answer` is never
 * empty.
 */
export interface VerdictPart {
  answer: string
  sure: string
  reasons: string
}

/** A verdict as paragraphs. Each part begins with its answer. */
export const verdictTexts = ({ parts }: Pick<Verdict, 'parts'>): string[] =>
  parts.flatMap(({ answer, sure, reasons }) => [`${answer} ${sure}`.trim(), reasons]).filter((text) => text !== '')

export interface Verdict {
  answer: 'prune' | 'do not prune' | 'no difference' | 'unknown'
  /** What is said: first on the text that decides, then on other text if the user's own text decides. */
  parts: VerdictPart[]
  /** Questions that the runs cannot answer, one sentence each. */
  untested: string[]
  /** The file to take: the pruned one that wins, or the unpruned one that beats it. Null if none is clearly better. */
  file: WorthRow | null
}

/** A kind of text that decides, with what was read of it. */
export interface DecidingText {
  kind: string
  windows: number
  sequenceLength: number
  documents?: number | undefined
  passages?: number | undefined
}

/** What a verdict is based on. `deciding` are the kinds of text that no choice used, `unmeasured` the files whose cost is unknown. */
export interface Evidence {
  duels: readonly Duel[]
  /** Dense files of mixed types, each against the best dense file of one type. */
  mixing: readonly Duel[]
  dense: readonly WorthRow[]
  deciding: readonly string[]
  texts: readonly DecidingText[]
  cost: Cost
  unmeasured: readonly string[]
  /** Whether a dense file is clearly better than a pruned one on every deciding text. */
  clearly: (dense: WorthRow, pruned: WorthRow) => boolean
}

/** Returns the answer in one part, and the questions that remain open. */
export function judge(evidence: Evidence): Verdict {
  const { says, ...verdict } = answerOf(evidence)
  const { answer, sure = [], reasons = [] } = says
  const [asked, basis] = verdict.answer === 'unknown' ? [[], []] : [moreWindows(evidence), decidedOn(evidence)]
  return {
    ...verdict,
    parts: [
      {
        answer,
        sure: [...sure, ...asked].join(' '),
        reasons: [...reasons, ...mixingOf(evidence, verdict.file), ...basis].join(' '),
      },
    ],
    untested: gapsOf(evidence),
  }
}

/**
 * With fewer windows a verdict says that it is not sure. Losses of pruned files differ from those of unpruned ones by `usualSpread` nats more
 * or less from window to window (see the README), so Student's interval over 16 windows shows 11 %.
 */
export const enoughWindows = 16
const usualSpread = 0.2

/** The smallest difference in perplexity, in percent, that so many windows usually show. */
const shownBy = (windows: number): number =>
  Math.round(100 * Math.expm1((studentQuantile(0.975, windows - 1) * usualSpread) / Math.sqrt(windows)))

const fewestOf = (texts: readonly DecidingText[]): number => Math.min(...texts.map(({ windows }) => windows))

const moreWindows = ({ texts }: Evidence): string[] =>
  fewestOf(texts) < enoughWindows ? [`Measure ${enoughWindows} windows or more to be sure.`] : []

/** `Decided on 16 windows of 256 tokens of mycode, from 3 documents, which pruning never saw. Ranges are 95 % intervals.` */
function decidedOn({ texts }: Evidence): string[] {
  if (texts.length === 0) return []
  const read = texts.map(({ kind, windows, sequenceLength, documents, passages }) => {
    const from = documents
      ? `, from ${plural(documents, 'document')}`
      : passages
        ? `, from ${plural(passages, 'passage')} of one document`
        : ''
    return `${windowsText(windows, sequenceLength)} of ${kind}${from}`
  })
  return [`Decided on ${sentenceList.format(read)}, which pruning never saw. Ranges are 95 % intervals.`]
}

/**
 * Says whether choosing the type of each matrix pays, with the smallest file of these that is better. Otherwise states the smallest that has
 * no rival of one type. `taken` is the file that the verdict names.
 */
function mixingOf(evidence: Evidence, taken: WorthRow | null): string[] {
  const { mixing, cost } = evidence
  const fought = mixing.filter(({ rival }) => rival).sort((a, b) => a.pruned.cost.mean - b.pruned.cost.mean)
  const won = fought.filter(({ outcome }) => outcome === 'better')
  const [first] = won
  if (!first) return smallerOf(evidence, taken)
  const { pruned: mixed, rival, texts } = first
  const all = fought.length > 1 ? ` It pays at ${won.length} of ${fought.length} sizes.` : ''
  return [
    `Choosing the type of each matrix pays: at ${costOf(mixed, cost)}, ${mixed.name} is better than ${rival?.name}, the best dense file of one type ${cost.equal}. ${numbersOf(mixed, rival as WorthRow, texts)}${all}`,
  ]
}

function smallerOf({ mixing, dense, deciding, cost }: Evidence, taken: WorthRow | null): string[] {
  const [mixed] = mixing.filter(({ rival }) => !rival).toSorted((a, b) => a.pruned.cost.mean - b.pruned.cost.mean)
  const whole = dense.find(({ weights }) => weights === null)
  if (!mixed || !whole || ![mixed.pruned, whole].every(isMeasured(deciding))) return []
  if (mixed.leftOut.some(({ name }) => name === whole.name)) return []
  const name = upperFirst(mixed.pruned.name)
  // The sentence on the user's own model has the numbers then.
  if (mixed.pruned === taken && cost.id === fileSize.id) return [`${name} is ${cost.cheaper} than every measured file of one type.`]
  const shown = deciding.map((kind) => `${shownValue(mixed.pruned, kind)} on ${kind} (unpruned: ${shownValue(whole, kind)})`)
  return [
    `${name} is ${cost.cheaper} than every measured file of one type, with a perplexity of ${sentenceList.format(shown)}, at ${costOf(mixed.pruned, cost)} instead of ${costOf(whole, cost)}.`,
  ]
}

/** The sentences of a `VerdictPart`. */
interface Sentences {
  answer: string
  sure?: string[]
  reasons?: string[]
}

function answerOf(evidence: Evidence): Pick<Verdict, 'answer' | 'file'> & { says: Sentences } {
  const { duels, dense, deciding, cost } = evidence
  const none = { answer: 'unknown', file: null } as const
  if (duels.length === 0) return { ...none, says: { answer: 'No verdict: no pruned file was measured.' } }
  if (deciding.length === 0)
    return {
      ...none,
      says: { answer: 'No verdict: each measured text is from a collection that pruning read too.', sure: ['Measure another text.'] },
    }
  const fought = duels.filter(({ rival, pruned }) => rival && isMeasured(deciding)(pruned))
  if (fought.length === 0) return { ...none, says: aloneOf(duels, dense, deciding, cost) }
  const by = (outcome: Duel['outcome']) => sorted(fought, deciding).filter((duel) => duel.outcome === outcome)
  const [won, lost] = [by('better'), by('worse')]
  const clean = won.filter(({ vetoed }) => !vetoed)
  if (clean[0]) return { answer: 'prune', says: winOf(clean[0], `${clean.length} of ${fought.length}`, evidence), file: clean[0].pruned }
  const refused = { answer: 'do not prune' } as const
  if (won[0]) return { ...refused, says: vetoOf(won[0], evidence), file: won[0].rival }
  if (lost[0])
    return { ...refused, says: lossOf(lost[0], lost.length === fought.length ? duels : [lost[0]], evidence), file: lost[0].rival }
  const best = sorted(fought, deciding)[0] as Duel
  if (best.pruned.keptWhole) return { ...refused, says: wholeOf(best, evidence), file: best.rival }
  return { answer: 'no difference', says: tieOf(best, cost), file: null }
}

/** Sorted by the pruned file's perplexity on the first deciding text, best first. */
function sorted(duels: readonly Duel[], [kind = '']: readonly string[]): Duel[] {
  return [...duels].sort((a, b) => (a.pruned.quality[kind]?.mean ?? 0) - (b.pruned.quality[kind]?.mean ?? 0))
}

function winOf({ pruned, rival, worseTasks, texts }: Duel, wins: string, { cost, texts: read }: Evidence): Sentences {
  const dense = rival as WorthRow
  const share = ({ quality }: WorthRow, task: string) => `${Math.round(100 * (quality[task]?.mean ?? Number.NaN))} %`
  const lost = worseTasks.map((task) => `${task} (${share(pruned, task)} against ${share(dense, task)})`)
  const but = lost.length > 0 ? `, but worse on ${sentenceList.format(lost)}` : ''
  return {
    answer: `${hedged('Prune', read)}: at ${costOf(pruned, cost)}, ${pruned.name} is better than ${dense.name}${but}.`,
    sure: [numbersOf(pruned, dense, texts)],
    reasons: [`${upperFirst(dense.name)} is the best dense file ${cost.equal}.`, `Pruning wins for ${wins} pruned files.`],
  }
}

/** Files without one of the deciding texts cannot be rivals. */
const isMeasured =
  (deciding: readonly string[]) =>
  ({ quality }: WorthRow): boolean =>
    deciding.every((kind) => quality[kind])
const onEvery = 'measured on every text that decides'

/** Words the case that no dense file costs as little as a pruned one, or can be compared with it. Says what each side reaches. */
function aloneOf(duels: readonly Duel[], dense: readonly WorthRow[], deciding: readonly string[], cost: Cost): Sentences {
  if (dense.length === 0)
    return { answer: 'No verdict: no dense file was measured.', sure: ['Run the unpruned model on the same texts too.'] }
  const able = dense.filter(isMeasured(deciding))
  if (able.length === 0) return { answer: `No verdict: no dense file was ${onEvery}.` }
  const measured = duels.filter(({ pruned }) => isMeasured(deciding)(pruned))
  if (measured.length === 0) return { answer: `No verdict: no pruned file was ${onEvery}.` }
  const isApart = ({ leftOut }: Duel, { name }: WorthRow) => leftOut.some((one) => one.name === name)
  const comparable = able.filter((row) => measured.some((duel) => !isApart(duel, row)))
  const [cheapest] = [...comparable].sort((a, b) => (cost.lowerIsBetter ? a.cost.mean - b.cost.mean : b.cost.mean - a.cost.mean))
  if (!cheapest) return { answer: 'No verdict: no dense file was measured like a pruned one.' }
  const best = (sorted(measured, deciding)[0] as Duel).pruned
  const shown = deciding.map((kind) => `${shownValue(best, kind)} on ${kind}`).join(' and ')
  const files = able.length < dense.length ? `Dense files ${onEvery}` : 'Dense files'
  return {
    answer: `No verdict: no pruned file has a dense rival ${cost.equal}.`,
    sure: [
      `${files} stay at ${costOf(cheapest, cost)}; ${best.name} reaches ${costOf(best, cost)}.`,
      `On text that pruning never saw, its perplexity is ${shown}.`,
    ],
  }
}

/** Not even a clear difference is sure if few windows show it: `Prune, as far as 8 windows show`. */
function hedged(answer: string, texts: readonly DecidingText[]): string {
  const windows = fewestOf(texts)
  return windows < enoughWindows ? `${answer}, as far as ${plural(windows, 'window')} ${windows === 1 ? 'shows' : 'show'}` : answer
}

function lossOf({ pruned, rival, texts }: Duel, duels: readonly Duel[], { cost, clearly, texts: read }: Evidence): Sentences {
  const dense = rival as WorthRow
  const isEvery = duels.length > 1 && duels.every((duel) => clearly(dense, duel.pruned))
  const turned = texts.map((text) => ({ ...text, difference: text.difference && inverse(text.difference) }))
  return {
    answer: `${hedged('Do not prune', read)}: at ${costOf(dense, cost)}, ${dense.name} is better than ${isEvery ? everyFile(duels, cost) : pruned.name}.`,
    sure: [numbersOf(dense, pruned, turned, isEvery ? ` of ${pruned.name}` : '')],
  }
}

/** A smaller pruned file may lose too, but no dense file of its size was measured. */
const everyFile = (duels: readonly Duel[], { cheaper }: Cost): string =>
  duels.every(({ rival }) => rival) ? 'every pruned file' : `every pruned file, even ${cheaper} ones`

function vetoOf({ pruned, rival, texts, loops }: Duel, { cost, texts: read }: Evidence): Sentences {
  const dense = rival as WorthRow
  const share = ({ loops: own }: WorthRow) => `${Math.round(100 * (own ?? 0))} %`
  const test = loops ? [`Loops: ${differenceText(loops, 'share')} over ${basisText(loops)}.`] : []
  return {
    answer: `${hedged('Do not prune', read)}: at ${costOf(pruned, cost)}, ${pruned.name} has the lower perplexity, but ${share(pruned)} of its answers end in a loop, against ${share(dense)} of those of ${dense.name}.`,
    sure: test,
    reasons: [numbersOf(pruned, dense, texts)],
  }
}

function wholeOf({ pruned, rival }: Duel, { cost, texts: read }: Evidence): Sentences {
  return {
    answer: `${hedged('Do not prune', read)}: at ${costOf(pruned, cost)}, removing any part costs more than storing weights in fewer bits.`,
    sure: [`Take ${rival?.name}.`],
  }
}

function tieOf({ pruned, rival, outcome, texts }: Duel, cost: Cost): Sentences {
  const dense = rival as WorthRow
  const how = outcome === 'mixed' ? 'each win on some texts' : 'do not differ clearly'
  return {
    answer: `At ${costOf(pruned, cost)}, ${pruned.name} and ${dense.name} ${how}.`,
    sure: [numbersOf(pruned, dense, texts)],
  }
}

/** `Perplexity on prose: 31.2 against 38.9, ×0.802 (0.796 to 0.812) over 8 windows.`, with each text that decides. */
function numbersOf(first: WorthRow, second: WorthRow, texts: readonly TextDifference[], ofSecond = ''): string {
  const shown = texts.map(({ kind, measure, difference }, at) => {
    const name = measure === texts[at - 1]?.measure ? '' : `${measure} `
    const interval = difference ? `, ${differenceText(difference)} over ${basisText(difference)}` : ''
    return `${name}on ${kind}: ${shownValue(first, kind, measure)} against ${shownValue(second, kind, measure)}${at === 0 ? ofSecond : ''}${interval}`
  })
  return `${upperFirst(shown.join('; '))}.`
}

const shownValue = ({ quality, bits }: WorthRow, kind: string, measure: TextDifference['measure'] = 'perplexity'): number =>
  Number(((measure === 'perplexity' ? quality : bits)[kind]?.mean ?? Number.NaN).toPrecision(3))

/** With fewer discordant answers than this, all in one direction, no paired test sees a difference: 2 / 2⁶ is the first below 5 %. */
const leastDiscordant = 6
/** The difference in looping answers that a verdict should be able to see. */
const seenShare = 0.1
/** The number of answers that can show this difference. */
export const enoughAnswers = Math.ceil(leastDiscordant / seenShare)

function gapsOf({ duels, dense, deciding, texts, cost, unmeasured }: Evidence): string[] {
  const able = dense.filter(isMeasured(deciding))
  const leastOf = ({ leftOut }: Duel) => able.length > leftOut.length
  const alone = duels
    .filter((duel) => !duel.rival && deciding.length > 0 && leastOf(duel))
    .map(({ pruned }) => `${pruned.name} (${costOf(pruned, cost)})`)
  const file = able.length < dense.length ? `file ${onEvery}` : 'file'
  const fought = duels.filter(({ rival }) => rival)
  const silent = fought.filter(({ loops }) => loops === null).map(({ pruned, rival }) => `${pruned.name} against ${rival?.name}`)
  const few = fought.flatMap(({ loops }) => (loops && !loops.clear && loops.unit === 'answer' && loops.count < enoughAnswers ? loops : []))
  const unsure = fought.flatMap(({ pruned, texts }) =>
    texts.flatMap(({ kind, difference }) => (difference ? [] : [`${pruned.name} on ${kind}`])),
  )
  const apart = isTimed({ name: cost.id.split('/')[0] ?? '' }) && fought.length > 0
  return [
    ...(deciding.length === 0 ? ['No text was measured that pruning never saw.'] : []),
    ...texts.flatMap((text) => (fought.length > 0 && text.windows < enoughWindows ? fewWindows(text) : [])),
    ...(alone.length > 0 ? [`No dense ${file} is ${cost.least} ${alone.join('; ')}.`] : []),
    ...leftOutTexts(duels),
    ...(unsure.length > 0 ? [`No losses by window are known, so no difference can be judged: ${unsure.join('; ')}. Measure again.`] : []),
    ...(silent.length > 0 ? [`Looping answers: not tested on the same prompts for ${silent.join('; ')}.`] : []),
    ...(few[0] ? [fewAnswers(few[0])] : []),
    ...(apart ? ['Times were taken in different runs. The machine may have been busier in some.'] : []),
    ...(unmeasured.length > 0 ? [`${cost.title} is not known for: ${unmeasured.join('; ')}.`] : []),
  ]
}

const fewWindows = ({ kind, windows }: DecidingText): string =>
  `Only ${plural(windows, 'window')} of ${kind} decided.${windows < 2 ? '' : ` They usually show differences of ${shownBy(windows)} % and more in perplexity; ${enoughWindows} windows show ${shownBy(enoughWindows)} %.`}`

function fewAnswers({ count }: Difference): string {
  const points = Math.ceil((100 * leastDiscordant) / count)
  const most = points > 100 ? 'no difference' : `only differences of ${points} points or more`
  return `Looping answers: ${count} answers can show ${most}. Take ${enoughAnswers} to see one of ${100 * seenShare} points.`
}

/** Says which dense files were left out, and why: once for each reason. */
function leftOutTexts(duels: readonly Duel[]): string[] {
  const found = duels.flatMap(({ pruned, leftOut }) => leftOut.map((one) => ({ ...one, pruned: pruned.name })))
  return [...Map.groupBy(found, ({ reason }) => reason)].map(([reason, own]) => {
    const names = [...new Set(own.map(({ name }) => name))].join('; ')
    const against = [...new Set(own.map(({ pruned }) => pruned))]
    return `Left out${against.length < duels.length ? ` against ${against.join('; ')}` : ''}: ${names} (${reason}).`
  })
}

const costOf = (row: WorthRow, cost: Cost): string => costText(row.cost.mean, cost) + cost.of
