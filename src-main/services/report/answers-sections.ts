import { diffWords } from 'diff'
import type { Inspected } from '#contract/inspection/inspected.ts'
import { intervalMeaning } from '#contract/judging/bradley-terry.ts'
import type { JudgingResult } from '#contract/judging/judging.ts'
import type { Transcript } from '#contract/playground/playground.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { type Block, heading, type Piece, paragraph, percent, tableBlock } from './blocks.ts'

const mostAnswers = 24

/** Shows answers by prompt, with their differences from the first answer to the same prompt. Runs may have had different prompts. */
export function answersSection(runs: readonly Pick<RunDetail, 'name' | 'answers'>[]): Block[] {
  const all = runs.flatMap(({ name, answers }) => answers.map((answer) => ({ name, ...answer })))
  if (all.length === 0) return []
  const byPrompt = Map.groupBy(all, ({ prompt }) => prompt)
  return [
    heading(2, 'Sample answers'),
    ...[...byPrompt].flatMap(([prompt, answers]) => [
      heading(3, prompt),
      sideBySide(
        answers.map(({ name, text }): Block => {
          const pieces = piecesOf(answers[0]?.text ?? '', text)
          return { kind: 'answer', title: name, note: `${text.length} characters`, pieces }
        }),
      ),
    ]),
  ]
}

const sideBySide = (blocks: readonly Block[]): Block => ({ kind: 'beside', groups: blocks.map((block) => [block]) })

function piecesOf(from: string, to: string): Piece[] {
  if (from === to) return [{ text: to, changed: false }]
  return diffWords(from, to).flatMap(({ value, removed, added }) => (removed ? [] : [{ text: value, changed: added === true }]))
}

/** Shows the answers to a set of prompts side by side, with statistics of each model's answers. */
export function transcriptSection(
  name: string,
  found: Extract<Inspected, { kind: 'generation' }>,
  { prompts, answers, columns }: Transcript,
): Block[] {
  const nameOf = (column: number) => columns[column]?.run?.name ?? columns[column]?.model.name ?? ''
  const rows = found.columns.map(({ tokens, equal, repetition, looping = null, distinct = null, ending = null }, column) => [
    nameOf(column),
    Number(tokens.toFixed(1)),
    percent(equal),
    percent(repetition),
    percent(looping),
    percent(distinct),
    ending === null ? null : Number(ending.toFixed(1)),
  ])
  return [
    heading(2, name),
    tableBlock(
      ['Model', 'Tokens per answer', 'Equal tokens', 'Repetition', 'Loops', 'Distinct trigrams', 'Repeated ending'],
      rows,
      'Equal tokens: the share of tokens that match the first model’s. Repetition: the share of four-token sequences that occurred earlier in the answer. Loops: the share of answers that end in a loop. Distinct trigrams: the share of three-token sequences that differ from each other. Repeated ending: tokens of the longest ending that occurred earlier.',
    ),
    ...prompts.slice(0, mostAnswers).flatMap((prompt, at) => {
      const own = answers.filter((answer) => answer.prompt === at)
      return [heading(3, prompt), sideBySide(own.map((answer) => answerBlock(answer, nameOf(answer.column), own[0]?.text)))]
    }),
    ...(prompts.length > mostAnswers ? [paragraph(`${prompts.length - mostAnswers} more prompts are in the transcript.`)] : []),
  ]
}

const answerBlock = ({ text, tokens, end }: Transcript['answers'][number], title: string, first = ''): Block => ({
  kind: 'answer',
  title,
  note: `${tokens.length} tokens, ended by ${end}`,
  pieces: piecesOf(first.trim(), text.trim()),
})

/** Shows the result of a blind judging: standings with intervals, and points by tag. */
export function judgingSection({ title, standings, byTag, votes, pairs }: JudgingResult): Block[] {
  const rows = standings.map(({ name, wins, losses, ties, bothBad, winRate, winInterval }) => [
    name,
    wins,
    losses,
    ties,
    bothBad,
    `${percent(winRate)} (${percent(winInterval.low)} to ${percent(winInterval.high)})`,
  ])
  return [
    heading(2, `Judged blind: ${title}`),
    paragraph(`${votes} of ${pairs} pairs were judged. ${intervalMeaning} Ties and “both bad” count as half a point.`),
    tableBlock(['Model', 'Won', 'Lost', 'Ties', 'Both bad', 'Win probability (95 % interval)'], rows, 'Standings'),
    ...(byTag.length > 0
      ? [
          tableBlock(
            ['Tag', 'Model', 'Pairs', 'Share of points'],
            byTag.flatMap(({ tag, points }) => points.map((own) => [tag, own.name, own.pairs, percent(own.score)])),
            'By tag',
          ),
        ]
      : []),
  ]
}
