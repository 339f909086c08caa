import { diffWords } from 'diff'
import type { ComparedRun, Comparison } from '#contract/compare.ts'
import { comparisonTable, measureOf } from '#contract/comparison.ts'
import type { DivergenceOfRun } from '#contract/divergence.ts'
import type { Inspected } from '#contract/inspected.ts'
import type { JudgingResult } from '#contract/judging.ts'
import { noiseLevel } from '#contract/paired.ts'
import type { Transcript } from '#contract/playground.ts'
import type { RunDetail } from '#contract/runs.ts'
import type { Estimate } from '#contract/statistics.ts'
import { divergenceNumbers, divergenceTitles, titleOfMethod } from '#contract/titles.ts'
import { renderSvg } from '../plot-svg.ts'
import { formatNumber } from '../table-text.ts'
import { type Block, heading, type Piece, paragraph, tableBlock, turned } from './blocks.ts'
import { commandOf } from './command.ts'
import { damagePicture, planPicture } from './pictures.ts'

const mostWorst = 10
const mostAnswers = 24
/** Runs that have room beside each other as columns of a table. */
const mostColumns = 8

const percent = (share: number | null): string | null => (share === null ? null : `${(100 * share).toFixed(1)} %`)
const estimated = ({ value, error }: Estimate): string =>
  error === null ? formatNumber(value) : `${formatNumber(value)} ± ${formatNumber(error)}`

/** What was asked: every run with what determines it. */
export function askedSection(runs: readonly RunDetail[]): Block[] {
  const rows = runs.map((run) => [
    run.name,
    titleOfMethod(run.method),
    run.model.name,
    percent(run.nominal),
    percent(run.reached),
    run.seed,
    run.status,
    run.calibration ? `${run.calibration.windows} × ${run.calibration.sequenceLength} tokens, ${run.calibration.hash.slice(0, 12)}` : null,
  ])
  const labels = ['Run', 'Method', 'Model', 'Asked', 'Reached', 'Seed', 'Status', 'Calibration windows, SHA-256']
  return [
    heading(2, 'What was asked'),
    tableBlock(labels, rows, 'Runs. Asked and reached are shares of the parameters of the block stack.'),
  ]
}

/** Columns of a comparison before its measures: model, method, sparsity, reached, seed. */
const firstMeasure = 5
const namesOf = (runs: readonly { name: string }[]): string[] => runs.map(({ name }) => name)

/** The comparison as the screen has it, with the plot of perplexity against what was removed. */
export async function comparisonSection({ runs, baseline }: Comparison): Promise<Block[]> {
  const measured = runs.filter(({ measures }) => measures.length > 0)
  if (measured.length === 0) return []
  const ordered = [...measured].sort((a, b) => Number(b.id === baseline) - Number(a.id === baseline))
  const byRun = comparisonTable(ordered, baseline, false)
  const wide = ordered.length > mostColumns
  const table = wide ? byRun : turned(byRun, firstMeasure, namesOf(ordered))
  const blocks: Block[] = [heading(2, 'What it cost'), { kind: 'table', table, caption: 'Measures by run; the best of each in bold.' }]
  const perplexity = measured.flatMap(({ measures }) => measures).find(({ name }) => name === 'perplexity')
  if (!perplexity) return blocks
  const id = perplexity.dataset ? `perplexity/${perplexity.dataset}` : 'perplexity'
  const points = (run: ComparedRun) => {
    const value = measureOf(run, id)?.value
    return value !== undefined && Number.isFinite(value) ? [{ x: run.reached ?? 0, y: value }] : []
  }
  const series = [...Map.groupBy(measured, ({ method }) => method)].map(([method, own]) => ({
    name: titleOfMethod(method),
    points: own.flatMap(points).sort((a, b) => a.x - b.x),
  }))
  const title = `Perplexity on ${perplexity.dataset || 'the test text'}`
  const svg = await renderSvg({
    title,
    x: { label: 'Removed share of the block stack', scale: 'linear' },
    y: { label: 'Perplexity', scale: 'log' },
    series,
  })
  const said = series.map(({ name, points: own }) => `${name}: ${own.map(({ x, y }) => `${percent(x)} ${formatNumber(y)}`).join(', ')}`)
  return [...blocks, { kind: 'picture', svg, onWhite: true, alternative: `${title} against the removed share. ${said.join('; ')}.` }]
}

export function mapsSection(runs: readonly RunDetail[]): Block[] {
  const pruned = runs.filter(({ plan, baseline }) => plan !== null && !baseline)
  if (pruned.length === 0) return []
  return [
    heading(2, 'What is left of the model'),
    paragraph('A row for each block: its attention, then the share of its MLP neurons that stays. Dashed is removed.'),
    {
      kind: 'beside',
      groups: pruned.map((run) => [
        heading(3, run.name),
        planPicture(run.name, run.plan as NonNullable<RunDetail['plan']>, run.modelDescription?.shape.intermediate ?? 0),
      ]),
    },
  ]
}

/** Flips against the baseline, with what chance makes of them. */
export function flipsSection({ runs }: Comparison): Block[] {
  const rows = runs.flatMap((run) =>
    run.paired.map(({ task, measure, questions, first, second, gained, lost, probability }) => [
      run.name,
      task,
      measure,
      questions,
      estimated(first),
      estimated(second),
      gained,
      lost,
      probability.toPrecision(3),
      probability < noiseLevel ? 'differs' : 'within noise',
    ]),
  )
  if (rows.length === 0) return []
  const labels = ['Run', 'Task', 'Measure', 'Questions', 'Baseline', 'Run’s', 'Became right', 'Became wrong', 'McNemar p', 'Says']
  return [
    heading(2, 'Questions that flipped'),
    paragraph(
      `Against the baseline on the same questions. p is McNemar’s exact test; a difference that comes by chance more than once in ${Math.round(1 / noiseLevel)} is called noise.`,
    ),
    tableBlock(labels, rows, 'Answers to the same questions'),
  ]
}

export function divergenceSection(name: string, { divergence }: Extract<Inspected, { kind: 'divergence' }>): Block[] {
  const { runs, tokens, dense, data } = divergence
  const rows = [
    ...divergenceNumbers.map((key) => [divergenceTitles[key], ...runs.map(({ numbers }) => estimated(numbers[key]))]),
    ['Largest divergence', ...runs.map(({ numbers }) => formatNumber(numbers.largest))],
  ]
  return [
    heading(2, name),
    paragraph(
      `Against the dense model, token by token, on ${tokens} tokens of ${data.source} (${data.windows} windows of ${data.sequenceLength}, SHA-256 ${data.hash.slice(0, 12)}). The dense model’s perplexity there is ${estimated(dense.perplexity)}. Divergences are Kullback-Leibler, in nats, as llama.cpp defines these numbers; ± is one standard error.`,
    ),
    tableBlock(['Measure', ...runs.map(({ run }) => run.name)], rows, 'Divergence from the dense model'),
    ...groupsTable(runs),
    ...damageOf(runs),
    ...runs.flatMap(worstPlaces),
  ]
}

function damageOf(runs: readonly DivergenceOfRun[]): Block[] {
  const groups = runs.flatMap((run) => {
    const picture = damagePicture(run)
    return picture ? [[heading(3, run.run.name), picture]] : []
  })
  if (groups.length === 0) return []
  return [heading(3, 'Where the damage is'), paragraph('Relative error of the stream behind each block.'), { kind: 'beside', groups }]
}

function groupsTable(runs: readonly DivergenceOfRun[]): Block[] {
  const [first] = runs
  if (!first) return []
  const rows = first.groups.map(({ by, group, tokens }, at) => [
    by,
    group,
    tokens,
    ...runs.map(({ groups }) => {
      const own = groups[at]
      return own ? `${estimated(own.divergence)}, same ${percent(own.sameTop.value)}` : null
    }),
  ])
  return [
    heading(3, 'By kind of token, script and position'),
    tableBlock(
      ['By', 'Group', 'Tokens', ...runs.map(({ run }) => run.name)],
      rows,
      'Mean divergence, and the share of tokens with the same likeliest token',
    ),
  ]
}

function worstPlaces({ run, worst }: DivergenceOfRun): Block[] {
  if (worst.length === 0) return []
  return [
    heading(3, `${run.name}: worst places`),
    ...worst.slice(0, mostWorst).map((place): Block => {
      const { before, text, divergence, expected, likeliest } = place
      return {
        kind: 'place',
        before,
        marked: text,
        note: `divergence ${formatNumber(divergence)}; the dense model expects “${expected}”, this one “${likeliest}”`,
      }
    }),
  ]
}

/** Answers to the same prompts, with what differs from the first run's. */
export function answersSection(runs: readonly Pick<RunDetail, 'name' | 'answers'>[]): Block[] {
  const answering = runs.filter(({ answers }) => answers.length > 0)
  const [first] = answering
  if (!first) return []
  return [
    heading(2, 'What they say'),
    ...first.answers.flatMap(({ prompt, text }, at) => [
      heading(3, prompt),
      besides(
        answering.map(({ name, answers }): Block => {
          const own = answers[at]?.text ?? ''
          return { kind: 'answer', title: name, note: `${own.length} characters`, pieces: piecesOf(text, own) }
        }),
      ),
    ]),
  ]
}

const besides = (blocks: readonly Block[]): Block => ({ kind: 'beside', groups: blocks.map((block) => [block]) })

function piecesOf(from: string, to: string): Piece[] {
  if (from === to) return [{ text: to, changed: false }]
  return diffWords(from, to).flatMap(({ value, removed, added }) => (removed ? [] : [{ text: value, changed: added === true }]))
}

export function transcriptSection(
  name: string,
  found: Extract<Inspected, { kind: 'generation' }>,
  { prompts, answers, columns }: Transcript,
): Block[] {
  const nameOf = (column: number) => columns[column]?.run?.name ?? columns[column]?.model.name ?? ''
  const rows = found.columns.map(({ tokens, equal, repetition }, column) => [
    nameOf(column),
    Number(tokens.toFixed(1)),
    percent(equal),
    percent(repetition),
  ])
  return [
    heading(2, name),
    tableBlock(
      ['Model', 'Tokens an answer', 'Equal tokens', 'Repetition'],
      rows,
      'Equal: the share of tokens as the first column has them. Repetition: the share of runs of four tokens that stood in the answer before.',
    ),
    ...prompts.slice(0, mostAnswers).flatMap((prompt, at) => {
      const own = answers.filter((answer) => answer.prompt === at)
      const [first] = own
      return [
        heading(3, prompt),
        besides(
          own.map(
            ({ column, text, tokens, end }): Block => ({
              kind: 'answer',
              title: nameOf(column),
              note: `${tokens.length} tokens, ended by ${end}`,
              pieces: piecesOf(first?.text.trim() ?? '', text.trim()),
            }),
          ),
        ),
      ]
    }),
    ...(prompts.length > mostAnswers ? [paragraph(`${prompts.length - mostAnswers} more prompts are in the transcript.`)] : []),
  ]
}

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
    paragraph(
      `${votes} of ${pairs} pairs were judged. Chances to win follow Bradley and Terry, with intervals of 95 % by resampling prompts; ties and two bad answers count half to each side.`,
    ),
    tableBlock(['Model', 'Won', 'Lost', 'Ties', 'Both bad', 'Chance to win'], rows, 'Standings'),
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

export function environmentSection(runs: readonly RunDetail[]): Block[] {
  const rows = runs.flatMap(({ name, environment, seconds }) =>
    environment
      ? [
          [
            name,
            environment.version,
            environment.backend,
            environment.device,
            environment.platform,
            environment.node,
            seconds === null ? null : Math.max(1, Math.round(seconds)),
          ],
        ]
      : [],
  )
  const commands = runs.flatMap(({ model, request }) => commandOf(model.name === 'sample' ? 'sample' : request.model, request) ?? [])
  const notes = runs.flatMap(({ name, remarks }) => remarks.map((remark) => `${name}: ${remark}`))
  return [
    ...(notes.length > 0 ? [heading(2, 'Notes'), ...[...new Set(notes)].map(paragraph)] : []),
    heading(2, 'How it was computed'),
    tableBlock(['Run', 'Espalier', 'Backend', 'Device', 'Platform', 'Node', 'Seconds'], rows, 'Environment'),
    heading(2, 'How to repeat it'),
    { kind: 'code', text: commands.join('\n') },
  ]
}
