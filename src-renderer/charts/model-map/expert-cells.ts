import type { JudgedExperts } from '#contract/pruning/experts.ts'
import type { MlpPlan } from '#contract/pruning/plan.ts'
import { formatPlural } from '../../lib/format.ts'

/** One expert of a mixture in the map. */
export interface ExpertCell {
  state: 'kept' | 'removed' | 'constant'
  /** How often it is chosen, relative to the busiest expert of its mixture; 1 if unknown. */
  use: number
}

/** The experts of a block as a plan leaves them, with their use if a run recorded it. */
export function expertCells(count: number, mlp: MlpPlan, block: number, judged?: JudgedExperts | null): ExpertCell[] {
  const tokens = judged?.blocks.find((one) => one.block === block)?.tokens
  const busiest = Math.max(...(tokens ?? []), 1)
  const kept = mlp === 'removed' ? new Set<number>() : mlp.experts && new Set(mlp.experts)
  const constants = new Set(mlp === 'removed' ? [] : mlp.constants)
  return Array.from({ length: count }, (_, expert) => ({
    state: constants.has(expert) ? 'constant' : kept && !kept.has(expert) ? 'removed' : 'kept',
    use: tokens ? (tokens[expert] ?? 0) / busiest : 1,
  }))
}

const countOf = (cells: readonly ExpertCell[], state: ExpertCell['state']): number => cells.filter((cell) => cell.state === state).length

/** The share of a mixture's experts that are kept. Constants do not count. */
export const keptExpertShare = (cells: readonly ExpertCell[]): number => (cells.length === 0 ? 1 : countOf(cells, 'kept') / cells.length)

/** `96 of 128 experts kept, 32 replaced by constants`. */
export function describeExperts(cells: readonly ExpertCell[]): string {
  const [kept, constants] = [countOf(cells, 'kept'), countOf(cells, 'constant')]
  const all = kept === cells.length ? `all ${formatPlural(kept, 'expert')} kept` : `${kept} of ${formatPlural(cells.length, 'expert')} kept`
  return constants > 0 ? `${all}, ${constants} replaced by constants` : all
}

/** The label beside a row: `96/128`. */
export const expertLabel = (cells: readonly ExpertCell[]): string => `${countOf(cells, 'kept')}/${cells.length}`
