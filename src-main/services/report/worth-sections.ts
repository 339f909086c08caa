import { formatNumber } from '#contract/comparison/cell-text.ts'
import type { ComparedRun, Comparison } from '#contract/comparison/compare.ts'
import { costText, fileSize } from '#contract/comparison/costs.ts'
import { type Worth, worthOf } from '#contract/comparison/verdict.ts'
import { duelText, type Front, outcomeText, qualityText, type WorthRow } from '#contract/comparison/worth.ts'
import { runsByModel } from '#contract/comparison/worth-runs.ts'
import { renderSvg } from '../comparison/plot-svg.ts'
import { type Block, heading, paragraph, percent, tableBlock } from './blocks.ts'

/** Says whether pruning is worth it, for each model that has runs in a weight type. */
export async function worthSection({ runs }: Comparison): Promise<Block[]> {
  const sections: Block[] = []
  for (const { name, runs: own } of runsByModel(runs).values())
    if (own.some(({ parameters }) => parameters.weights !== undefined)) sections.push(...(await sectionOf(name, own)))
  return sections
}

async function sectionOf(name: string, runs: readonly ComparedRun[]): Promise<Block[]> {
  const worth = worthOf(runs)
  return [
    heading(2, `Is it worth it? ${name}`),
    paragraph(worth.sentence),
    ...worth.untested.map(paragraph),
    tableOf(worth),
    ...(await pictureOf(worth)),
  ]
}

function tableOf({ rows, duels, fronts }: Worth): Block {
  const deciding = fronts.filter(({ decides }) => decides)
  const labels = [
    'File',
    'Size',
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
      return [row.name, costText(row.cost.mean, fileSize), ...values, loops, rival, ...against, result]
    })
  return tableBlock(
    labels,
    cells,
    'All files. The rival of a pruned file is the best unpruned file of its size. Against the rival: the factor of the perplexity, or the difference in bits per byte, with its 95 % interval. ◆: on the Pareto front. †: measured otherwise, so not compared with the others. ± and ×/÷: one standard error.',
  )
}

const markOf = ({ rows, apart }: Front, row: WorthRow): string =>
  rows.includes(row) ? ' ◆' : apart.some((one) => one.row === row) ? ' †' : ''

/** Plots quality against file size, on the first text that decides, else on the first. Squares are unpruned files. */
async function pictureOf({ rows, fronts }: Worth): Promise<Block[]> {
  const front = fronts.find(({ decides }) => decides) ?? fronts[0]
  if (!front) return []
  const seriesOf = (name: string, pruned: boolean) => ({
    name,
    marker: pruned ? ('circle' as const) : ('square' as const),
    points: rows
      .filter((row) => row.pruned === pruned && !front.apart.some((one) => one.row === row))
      .flatMap(({ cost, quality }) => (quality[front.kind] ? [{ x: cost.mean / 1e6, y: quality[front.kind]?.mean ?? 0 }] : []))
      .sort((a, b) => a.x - b.x),
  })
  const series = [seriesOf('Unpruned (rivals)', false), seriesOf('Pruned', true)]
  const title = `${front.measure === 'perplexity' ? 'Perplexity' : 'Accuracy'} on ${front.kind} against file size`
  const y = { label: front.measure, scale: front.measure === 'perplexity' ? ('log' as const) : ('linear' as const) }
  const svg = await renderSvg({ title, x: { label: 'File size in MB', scale: 'linear' }, y, series })
  const descriptions = series.map(
    ({ name, points }) => `${name}: ${points.map((point) => `${formatNumber(point.x)} MB ${formatNumber(point.y)}`).join(', ')}`,
  )
  return [{ kind: 'picture', svg, onWhite: true, alternative: `${title}. ${descriptions.join('; ')}.` }]
}
