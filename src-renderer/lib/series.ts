import type { RepairKind } from '#contract/pruning/repair.ts'
import { repairTitles } from '#contract/pruning/repair-kinds.ts'
import type { ParameterValue } from '#contract/runs/runs.ts'
import { titleOfMethod } from '#contract/titles.ts'

export const markShapes = ['circle', 'square', 'triangle', 'diamond', 'cross', 'star', 'wye'] as const
export type MarkShape = (typeof markShapes)[number]

/** How a method looks in every chart: colour and shape together, so that neither has to be told apart alone. */
export interface SeriesStyle {
  color: string
  shape: MarkShape
}

/** Styles by first appearance in the registry's order; an eleventh method starts the colours again with another shape. */
export function seriesStyle(methods: readonly string[], method: string): SeriesStyle {
  if (method === 'dense') return { color: 'var(--ink-soft)', shape: 'wye' }
  const at = methods.filter((id) => id !== 'dense').indexOf(method)
  // Until the registry is known, no colour that would later change.
  if (at < 0) return { color: 'var(--ink-faint)', shape: 'circle' }
  return { color: `var(--series-${at % 10})`, shape: markShapes[(at + Math.floor(at / 6)) % 6] ?? 'circle' }
}

/** What was done to the weights of a pruned model: a repair, or a recovery with or without one before. */
export type Treatment = RepairKind | 'recovered'

const treatmentShapes: Record<Treatment, MarkShape> = { 'one-pass': 'cross', 'in-order': 'star', recovered: 'wye' }
const treatmentTitles: Record<Treatment, string> = { ...repairTitles, recovered: 'recovered' }

/** A repaired or recovered plan has its method's colour and another shape. */
export function repairedStyle(style: SeriesStyle, treatment: Treatment | null): SeriesStyle {
  return treatment ? { ...style, shape: treatmentShapes[treatment] } : style
}

/** How the plan of a run was repaired or recovered; null where it was not. */
export function repairOf({ parameters }: { parameters: Readonly<Record<string, ParameterValue>> }): Treatment | null {
  if (parameters['recover.text.source'] !== undefined) return 'recovered'
  return (parameters['repair.kind'] ?? null) as RepairKind | null
}

/** The series of a run in a chart: its method and repair. */
export function seriesId(method: string, repair: Treatment | null): string {
  return repair ? `${method} ${repair}` : method
}

export function seriesTitle({ method, repair }: { method: string; repair: Treatment | null }): string {
  return repair ? `${titleOfMethod(method)}, ${treatmentTitles[repair]}` : titleOfMethod(method)
}
