import type { Plot } from '#contract/comparison/plot.ts'
import type { GateStep, NeuronScores } from '#contract/pruning/gates.ts'
import type { HeatRow } from '../../../charts/heat-grid.ts'
import { formatPlural, formatValue } from '../../../lib/format.ts'

/** The divergence from the dense model on the windows of each step, while gates are trained. */
export function gatesPlot(steps: readonly GateStep[]): Plot {
  return {
    title: 'Divergence from the dense model',
    x: { label: 'Step', scale: 'linear' },
    y: { label: 'Nats per token', scale: 'linear' },
    series: [{ name: 'calibration text', points: steps.map(({ step, divergence }) => ({ x: step, y: divergence })) }],
  }
}

/** What a step did to gates, in a sentence, with the blocks that changed most since the step `before`. */
export function gatesNote(step: GateStep | undefined, before?: GateStep): string {
  if (!step) return 'Each step meets the budget, on other windows than the step before'
  const moved = `${formatPlural(step.closed, 'gate')} closed and ${formatPlural(step.reopened, 'gate')} reopened`
  const most = before ? mostMoved(step, before) : ''
  return `Step ${step.step}: ${formatValue(step.divergence)} nats per token, ${moved}${most}`
}

/** Blocks that a note names. */
const named = 2

function mostMoved(step: GateStep, before: GateStep): string {
  const blocks = [...changesOf(step, before).entries()].sort(([, a], [, b]) => Math.abs(b) - Math.abs(a)).slice(0, named)
  const signed = (change: number) => (change > 0 ? `+${change}` : `−${-change}`)
  const widths = blocks.flatMap(([block, change]) => (change === 0 ? [] : [`MLP ${block} (${signed(change)})`]))
  const { closed, reopened } = attentionMoves(step, before)
  const attention = [...closed.map((block) => `attention ${block} closed`), ...reopened.map((block) => `attention ${block} reopened`)]
  return widths.length + attention.length > 0 ? `; most in ${[...widths, ...attention].join(', ')}` : ''
}

/** How many neurons or experts each block gained, or lost if it is negative. */
const changesOf = ({ kept }: GateStep, before: GateStep): number[] => kept.map((own, block) => own - (before.kept[block] ?? own))

const attentionMoves = ({ attentionRemoved: now }: GateStep, { attentionRemoved: then }: GateStep) => ({
  closed: now.filter((block) => !then.includes(block)),
  reopened: then.filter((block) => !now.includes(block)),
})

/** The most columns of a heat map. More steps share columns. */
const mostColumns = 60

/** What steps moved, as a heat map: a row for each block, a column for each step after the first, or for several. */
export function movesMap(steps: readonly GateStep[]): { rows: HeatRow[]; columns: string[]; columnOf: (step: number) => number } {
  const moves = steps.slice(1).map((step, index) => ({ step, before: steps[index] as GateStep }))
  const size = Math.max(1, Math.ceil(moves.length / mostColumns))
  const groups = Array.from({ length: Math.ceil(moves.length / size) }, (_, column) => moves.slice(column * size, (column + 1) * size))
  const columns = groups.map((group) => {
    const [first, last] = [group[0]?.step.step, group.at(-1)?.step.step]
    return first === last ? `step ${first}` : `steps ${first} to ${last}`
  })
  const rows = (steps[0]?.kept ?? []).map((_, block): HeatRow => {
    const cells = groups.map((group) => {
      const value = group.reduce((sum, { step, before }) => sum + (changesOf(step, before)[block] ?? 0), 0)
      const attention = group.flatMap(({ step, before }) => {
        const { closed, reopened } = attentionMoves(step, before)
        return [...(closed.includes(block) ? ['attention closed'] : []), ...(reopened.includes(block) ? ['attention reopened'] : [])]
      })
      const words = value === 0 ? 'no change' : `${Math.abs(value)} ${value > 0 ? 'reopened' : 'closed'}`
      return { value, marked: attention.length > 0, text: [words, ...attention].join(', ') }
    })
    return { label: String(block), title: `Block ${block}`, cells }
  })
  return { rows, columns, columnOf: (step) => Math.floor((step - 2) / size) }
}

/** Cells of a row of scores, and the share of the lowest scores that have no colour. */
const [scoreCells, outliers] = [40, 0.02]

/**
 * The scores of each block's gates as a heat map: attention first, then its neurons from the strongest to the weakest, several to a cell.
 * Values of removed gates are negative, so that they get the other colour.
 */
export function scoresMap(
  { scores, cuts, attention = [] }: NeuronScores,
  removed: readonly boolean[],
): { rows: HeatRow[]; columns: string[] } {
  const all = scores.flat().sort((a, b) => a - b)
  // A few gates score far below all others. Without them, differences among the others can be seen.
  const low = all[Math.floor(outliers * all.length)] ?? 0
  const strength = (score: number, isKept: boolean) => (isKept ? 1 : -1) * Math.max(0, score - low)
  const hasAttention = attention.some((score) => score !== null)
  const ofAttention = (block: number) => {
    const [score, isRemoved] = [attention[block] ?? null, removed[block] ?? false]
    if (score === null) return { value: 0, text: 'attention has no score' }
    return { value: strength(score, !isRemoved), text: `attention, score ${formatValue(score)}, ${isRemoved ? 'removed' : 'kept'}` }
  }
  const rows = scores.map((own, block): HeatRow => {
    const sorted = [...own].sort((a, b) => b - a)
    const size = sorted.length / scoreCells
    const cells = Array.from({ length: sorted.length > 0 ? scoreCells : 0 }, (_, cell) => {
      const part = sorted.slice(Math.floor(cell * size), Math.max(Math.floor(cell * size) + 1, Math.floor((cell + 1) * size)))
      const mean = part.reduce((sum, score) => sum + score, 0) / Math.max(1, part.length)
      const isKept = (part[Math.floor(part.length / 2)] ?? 0) >= (cuts[block] ?? 0)
      return { value: strength(mean, isKept), text: `score ${formatValue(mean)}, ${isKept ? 'kept' : 'removed'}` }
    })
    return { label: String(block), title: `Block ${block}`, cells: hasAttention ? [ofAttention(block), ...cells] : cells }
  })
  return {
    rows,
    columns: [
      ...(hasAttention ? ['attention'] : []),
      ...Array.from({ length: scoreCells }, (_, cell) => `neurons ${cell + 1} of ${scoreCells}`),
    ],
  }
}
