import { diffWords } from 'diff'
import { at } from '#contract/at.ts'
import { cellText, formatNumber, probabilityText } from '#contract/comparison/cell-text.ts'
import { apartTexts, comparableSets } from '#contract/comparison/comparable.ts'
import type { ComparedRun, Comparison } from '#contract/comparison/compared-run.ts'
import { comparedGroups, comparisonTable } from '#contract/comparison/comparison-table.ts'
import { type Cost, costText, fileSize } from '#contract/comparison/costs.ts'
import { basisText, differenceOf, differenceText } from '#contract/comparison/difference.ts'
import { columnLabel, measureColumns } from '#contract/comparison/measure-columns.ts'
import { noiseLevel } from '#contract/comparison/paired-questions.ts'
import { groupOverSeeds, intervalOf, lineKey, type SeedGroup } from '#contract/comparison/seeds.ts'
import { plainColours, seriesColours, seriesLook, seriesTitle, treatmentOf } from '#contract/comparison/series.ts'
import { bestOfEach, type OptionTitle, sparsityTables } from '#contract/comparison/sparsity-table.ts'
import type { Table } from '#contract/comparison/table.ts'
import { usualCost, type Worth, worthOf } from '#contract/comparison/verdict.ts'
import { verdictTexts } from '#contract/comparison/verdict-sentence.ts'
import { duelText, type Front, outcomeText, qualityText, type WorthRow } from '#contract/comparison/worth.ts'
import { runsByModel } from '#contract/comparison/worth-runs.ts'
import type { DivergenceOfRun } from '#contract/inspection/divergence.ts'
import type { Inspected } from '#contract/inspection/inspected.ts'
import { intervalMeaning } from '#contract/judging/bradley-terry.ts'
import type { JudgingResult } from '#contract/judging/judging.ts'
import type { Transcript } from '#contract/playground/playground.ts'
import { expertSentences } from '#contract/pruning/experts.ts'
import { hasSeveralModels, withModelNames } from '#contract/runs/model-names.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { denseMethod, divergenceNumbers, divergenceTitles, sparsityBase, titleOfMethod } from '#contract/titles.ts'
import { lowerFirst } from '#contract/words.ts'
import { renderSvg } from '#services/comparison/plot-svg.ts'
import { type Block, estimated, heading, named, type Piece, paragraph, percent, tableBlock, transposed } from './blocks.ts'
import { damagePicture, planPicture } from './pictures.ts'
import { commandOf } from './report-command.ts'

/** Says first what came out: the best at each sparsity, against the unpruned model, and who else is as good. */
export function resultSection({ runs }: Comparison): Block[] {
  const column = measureColumns(runs).find(({ name }) => name === 'perplexity')
  if (!column) return []
  const groups = groupOverSeeds(runs)
  const dense = groups.filter((group) => group.measures.has(column.id) && group.runs.every(({ method }) => method === denseMethod))
  const sentences = bestOfEach(groups, column).flatMap(({ best, rivals }) => {
    const [first, ...others] = best
    if (!first) return []
    const value = first.measures.get(column.id)
    const reference = dense.find((one) => differenceOf(first, one, column))
    const difference = reference && differenceOf(first, reference, column)
    const against = difference
      ? `, ${differenceText(difference)} of the unpruned model’s (95 % interval over ${basisText(difference)})`
      : ''
    const tied = others.length > 0 ? ` No clear difference from ${others.map(({ name }) => name).join(' and ')}.` : ''
    const text = cellText({
      value: value?.mean ?? null,
      spread: value?.spread ?? null,
      factor: value?.factor ?? false,
      ...intervalOf(first, column.id),
    })
    const lead = rivals > 1 ? `Best of ${rivals}: ` : ''
    return [`${lead}${first.name}, with ${columnLabel(column)} ${text}${against}.${tied}`]
  })
  return sentences.length === 0 ? [] : [heading(2, 'Result'), ...sentences.map(paragraph)]
}

/** Lists the runs with their main settings and their status. */
export function askedSection(runs: readonly RunDetail[]): Block[] {
  const rows = withModelNames(runs).map((run) => [
    run.name,
    titleOfMethod(run.method),
    run.model.name,
    percent(run.nominal),
    percent(run.reached),
    run.seed,
    run.status,
    run.calibration
      ? `${run.calibration.tokens ?? `${run.calibration.windows} × ${run.calibration.sequenceLength}`} tokens${run.calibration.beginToken ? ' with begin token' : ''}, ${run.calibration.hash.slice(0, 12)}`
      : null,
  ])
  const labels = ['Run', 'Method', 'Model', 'Requested', 'Reached', 'Seed', 'Status', 'Calibration windows, SHA-256']
  return [
    heading(2, 'Settings'),
    tableBlock(labels, rows, `Runs. Requested and reached sparsity are shares of ${sparsityBase(runs.map(({ method }) => method))}.`),
  ]
}

/** Shows the model map of each pruned run. */
export function mapsSection(runs: readonly RunDetail[]): Block[] {
  const pruned = runs.filter(({ plan, baseline }) => plan !== null && !baseline)
  if (pruned.length === 0) return []
  return [
    heading(2, 'Remaining model'),
    paragraph(
      'Each row is a block: its attention, then the kept share of its MLP neurons, or its experts one by one. An expert that became a constant is a line. Removed parts are dashed.',
    ),
    {
      kind: 'beside',
      groups: pruned.map((run) => [
        heading(3, run.name),
        planPicture(run.name, run.plan as NonNullable<RunDetail['plan']>, run.modelDescription?.blocks ?? []),
      ]),
    },
  ]
}

/** Shows the runs' notes, where each was computed, and the commands that repeat them. */
export function environmentSection(runs: readonly RunDetail[], paths: boolean): Block[] {
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
  const notes = runs.flatMap(({ name, remarks, experts, plan }) =>
    [...remarks, ...(experts && plan ? expertSentences(experts, plan) : [])].map((remark) => `${name}: ${remark}`),
  )
  return [
    ...(notes.length > 0 ? [heading(2, 'Notes'), ...[...new Set(notes)].map(paragraph)] : []),
    heading(2, 'How it was computed'),
    tableBlock(['Run', 'Espalier', 'Backend', 'Device', 'Platform', 'Node', 'Seconds'], rows, 'Environment'),
    heading(2, 'How to repeat it'),
    ...(paths
      ? []
      : [paragraph('The commands name models and texts without their folders. Add the folders where they are on your machine.')]),
    { kind: 'code', text: commands.join('\n') },
  ]
}

/** How many runs fit side by side as columns of a table. */
const mostColumns = 8

/** Number of columns before the measures: model, method, sparsity, reached, seed. */
const firstMeasure = 5

/** Columns that follow the names in the first table: the model and the reached sparsity. */
const factColumns = [0, 3]

/** How many measures fit side by side as columns. */
const mostMeasures = 6

/** Shows the comparison as on the screen: all measures, each quality by method and sparsity, and a plot of perplexity over sparsity. */
export async function comparisonSection({ runs, baseline }: Comparison, overSeeds: boolean, titleOf: OptionTitle): Promise<Block[]> {
  const measured = runs.filter(({ measures }) => measures.length > 0)
  if (measured.length === 0) return []
  const groups = comparedGroups(measured, baseline, overSeeds)
  const whole = comparisonTable(measured, baseline, overSeeds)
  return [
    heading(2, 'What it cost'),
    ...measureTables(whole, groups).map((table): Block => ({ kind: 'table', table, caption: captionOf(whole) })),
    ...sparsityTables(measured, titleOf).map(
      ({ table: { caption, notes, ...own } }): Block => ({ kind: 'table', table: own, caption: captionOf({ caption, notes }) }),
    ),
    ...(await perplexityPlot(groups)),
  ]
}

const captionOf = ({ caption = '', notes = [] }: Pick<Table, 'caption' | 'notes'>): string => [caption, ...notes].filter(Boolean).join(' ')

/** Makes one table with a column for each result, or with many results several tables with a row for each. */
function measureTables(table: Table, groups: readonly SeedGroup[]): Table[] {
  const names = groups.map(({ name }) => name)
  if (groups.length <= mostColumns) return [transposed(table, firstMeasure, names)]
  const measures = table.columns.map((_, column) => column).slice(firstMeasure)
  const parts = Array.from({ length: Math.ceil(measures.length / mostMeasures) }, (_, part) =>
    measures.slice(part * mostMeasures, (part + 1) * mostMeasures),
  )
  return parts.map((part, order) => named(table, names, order === 0 ? [...factColumns, ...part] : part))
}

async function perplexityPlot(groups: readonly SeedGroup[]): Promise<Block[]> {
  const column = measureColumns(groups.flatMap(({ runs }) => runs)).find(({ name }) => name === 'perplexity')
  if (!column) return []
  const pointsOf = ({ measures, reached }: SeedGroup) => {
    const { mean, spread, count, factor } = measures.get(column.id) ?? { mean: Number.NaN, spread: null, count: 0, factor: false }
    return Number.isFinite(mean) ? [{ x: reached ?? 0, y: mean, ...(spread !== null && count > 1 ? { spread, factor } : {}) }] : []
  }
  const sets = comparableSets(
    groups.filter(({ measures }) => measures.has(column.id)),
    [column],
  )
  // A line connects only what can be compared.
  const setOf = new Map(sets.flatMap((set, index) => set.map((group) => [group, index] as const)))
  const looks: string[] = []
  const manyModels = hasSeveralModels(groups.flatMap(({ runs }) => runs))
  const series = [...Map.groupBy(groups, (group) => `${setOf.get(group)} ${lineKey(at(group.runs, 0))}`).values()].map((own) => {
    const run = at(at(own, 0).runs, 0)
    const { colour } = seriesLook(run.method)
    looks.push((colour === null ? plainColours : at(seriesColours, colour)).light)
    const name = [seriesTitle(run.method, treatmentOf(run)), ...(manyModels ? [at(own, 0).model] : [])].join(', ')
    return { name, points: own.flatMap(pointsOf).sort((a, b) => a.x - b.x) }
  })
  const title = `Perplexity on ${column.dataset || 'the test text'}`
  const base = sparsityBase(groups.flatMap(({ runs }) => runs.filter(({ baseline }) => !baseline).map(({ method }) => method)))
  const axes = { x: { label: `Removed share of ${base}`, scale: 'linear' }, y: { label: 'Perplexity', scale: 'log' } } as const
  const svg = await renderSvg({ title, ...axes, series }, looks)
  const descriptions = series.map(
    ({ name, points }) => `${name}: ${points.map(({ x, y }) => `${percent(x)} ${formatNumber(y)}`).join(', ')}`,
  )
  return [
    { kind: 'picture', svg, onWhite: true, alternative: `${title} against the removed share. ${descriptions.join('; ')}.` },
    ...apartTexts(sets, [column], ({ name }) => name).map(paragraph),
  ]
}

/** Shows how many questions each run answers differently from the baseline, and whether that is more than noise. */
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
      probabilityText(probability),
      probability < noiseLevel ? 'differs' : 'within noise',
    ]),
  )
  if (rows.length === 0) return []
  const labels = ['Run', 'Task', 'Measure', 'Questions', 'Baseline', 'This run', 'Became right', 'Became wrong', 'McNemar p', 'Conclusion']
  return [
    heading(2, 'Questions that flipped'),
    paragraph(
      `Compared with the baseline on the same questions. p is from McNemar’s exact test. A difference that occurs by chance more than once in ${Math.round(1 / noiseLevel)} is called noise.`,
    ),
    tableBlock(labels, rows, 'Answers to the same questions'),
  ]
}

/** Says whether pruning is worth it, for each model that has runs in a weight type. */
export async function worthSection({ runs }: Comparison): Promise<Block[]> {
  const sections: Block[] = []
  for (const { name, runs: own } of runsByModel(runs).values())
    if (own.some(({ parameters }) => parameters.weights !== undefined)) sections.push(...(await sectionOf(name, own)))
  return sections
}

async function sectionOf(name: string, runs: readonly ComparedRun[]): Promise<Block[]> {
  const cost = usualCost(runs)
  const worth = worthOf(runs, cost)
  return [
    heading(2, `Is it worth it? ${name}`),
    ...[...verdictTexts(worth), ...worth.untested].map(paragraph),
    tableOf(worth, cost),
    ...(await pictureOf(worth, cost)),
  ]
}

function tableOf({ rows, duels, fronts }: Worth, cost: Cost): Block {
  const deciding = fronts.filter(({ decides }) => decides)
  const labels = [
    'File',
    cost === fileSize ? 'Size' : cost.title,
    ...fronts.map(({ kind, decides }) => (decides ? `${kind} (decides)` : kind)),
    'Loops',
    'Rival',
    ...deciding.map(({ kind }) => `Against the rival on ${kind}`),
    'Result',
  ]
  const cells = [...rows]
    .sort((a, b) => b.cost.mean - a.cost.mean)
    .map((row) => {
      const duel = duels.find(({ pruned }) => pruned === row)
      const values = fronts.map((front) => qualityText(row, front) + markOf(front, row))
      const loops = row.loops === null ? null : percent(row.loops)
      const against = deciding.map(({ kind }) => (duel ? (duelText(duel, kind)?.text ?? null) : null))
      const [rival, result] = [duel?.rival?.name ?? null, duel ? outcomeText(duel) : null]
      return [row.name, costText(row.cost.mean, cost), ...values, loops, rival, ...against, result]
    })
  return tableBlock(
    labels,
    cells,
    `All files. The rival of a pruned file is the best unpruned file ${cost.equal}. Against the rival: the factor of the perplexity, or the difference in bits per byte, with its 95 % interval. ◆: on the Pareto front. †: measured otherwise, so not compared with the others. ± and ×/÷: one standard error.`,
  )
}

const markOf = ({ rows, apart }: Front, row: WorthRow): string =>
  rows.includes(row) ? ' ◆' : apart.some((one) => one.row === row) ? ' †' : ''

/** Plots quality against the cost, on the first text that decides, else on the first. Squares are unpruned files. */
async function pictureOf({ rows, fronts }: Worth, cost: Cost): Promise<Block[]> {
  const front = fronts.find(({ decides }) => decides) ?? fronts[0]
  if (!front) return []
  const [unit, perUnit] = cost === fileSize ? ['MB', 1e6] : [cost.unit, 1]
  const seriesOf = (name: string, pruned: boolean) => ({
    name,
    marker: pruned ? ('circle' as const) : ('square' as const),
    points: rows
      .filter((row) => row.pruned === pruned && !front.apart.some((one) => one.row === row))
      .flatMap(({ cost: own, quality }) => (quality[front.kind] ? [{ x: own.mean / perUnit, y: quality[front.kind]?.mean ?? 0 }] : []))
      .sort((a, b) => a.x - b.x),
  })
  const series = [seriesOf('Unpruned (rivals)', false), seriesOf('Pruned', true)]
  const title = `${front.measure === 'perplexity' ? 'Perplexity' : 'Accuracy'} on ${front.kind} against ${lowerFirst(cost.title)}`
  const y = { label: front.measure, scale: front.measure === 'perplexity' ? ('log' as const) : ('linear' as const) }
  const svg = await renderSvg({ title, x: { label: `${cost.title} in ${unit}`, scale: 'linear' }, y, series })
  const descriptions = series.map(
    ({ name, points }) => `${name}: ${points.map((point) => `${formatNumber(point.x)} ${unit} ${formatNumber(point.y)}`).join(', ')}`,
  )
  return [{ kind: 'picture', svg, onWhite: true, alternative: `${title}. ${descriptions.join('; ')}.` }]
}

const mostWorst = 10

/** Shows how far runs are from the dense model: in total, by kind of token, by block, and at the worst tokens. */
export function divergenceSection(name: string, { divergence }: Extract<Inspected, { kind: 'divergence' }>): Block[] {
  const { runs, tokens, dense, data } = divergence
  const rows = [
    ...divergenceNumbers.map((key) => [divergenceTitles[key], ...runs.map(({ numbers }) => estimated(numbers[key]))]),
    ['Largest divergence', ...runs.map(({ numbers }) => formatNumber(numbers.largest))],
  ]
  return [
    heading(2, name),
    paragraph(
      `Compared with the dense model, token by token, on ${tokens} tokens of ${data.source} (${data.windows} windows of ${data.sequenceLength}, SHA-256 ${data.hash.slice(0, 12)}). The dense model’s perplexity there is ${estimated(dense.perplexity)}. Divergences are Kullback-Leibler, in nats, as llama.cpp defines these numbers; ± is one standard error.`,
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
  return [heading(3, 'Damage by block'), paragraph('Relative error of the stream after each block.'), { kind: 'beside', groups }]
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
      'Equal tokens: the share of places with the same token as in the first model’s answer. Repetition: the share of four-token sequences that occurred earlier in the answer. Loops: the share of answers that end in a loop. Distinct trigrams: the share of three-token sequences that differ from each other. Repeated ending: tokens of the longest ending that occurred earlier.',
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
