import { type RepairKind, repairTitles } from '../pruning/repair.ts'
import type { ParameterValue } from '../runs/runs.ts'
import { denseMethod, methodTitles, titleOfMethod } from '../titles.ts'

export const markShapes = ['circle', 'square', 'triangle', 'diamond', 'cross', 'star', 'wye', 'times', 'triangle-down'] as const
export type MarkShape = (typeof markShapes)[number]

/** The colours of a series on light and dark paper. Series differ in lightness as well as hue, and each also has a shape. */
export const seriesColours = [
  { light: '#1f7a47', dark: '#6bbd86' },
  { light: '#2f62ad', dark: '#83aef0' },
  { light: '#b85a12', dark: '#f0a04b' },
  { light: '#8a4a9e', dark: '#cf9ae0' },
  { light: '#0d7d86', dark: '#5cc8cf' },
  { light: '#8a6d00', dark: '#d9c04a' },
  { light: '#a8324a', dark: '#f08a9c' },
  { light: '#6e4a2c', dark: '#c7a382' },
  { light: '#b8308a', dark: '#f59bd0' },
  { light: '#5b6b00', dark: '#c3d65a' },
  { light: '#4b3fa7', dark: '#aaa2f7' },
] as const

/** The dense model, and series without a colour of their own. */
export const plainColours = { light: '#4c554e', dark: '#b3bbb4' } as const

/** The look of a method in every chart on screens and in reports. `colour` is an index into `seriesColours`; null means `plainColours`. */
export interface SeriesLook {
  colour: number | null
  shape: MarkShape
}

/** The order of the methods in charts and tables. A method that was removed keeps its place, so that no other changes its colour. */
export const methodOrder: readonly string[] = Object.keys(methodTitles).toSpliced(1, 0, '2ssp_fit')

/** Returns the look of a method by its place. A twelfth method gets the first colour with another shape. */
export function seriesLook(method: string, methods = methodOrder): SeriesLook {
  if (method === denseMethod) return { colour: null, shape: 'square' }
  const at = methods.indexOf(method)
  if (at < 0) return { colour: null, shape: 'circle' }
  const colour = at % seriesColours.length
  return { colour, shape: markShapes[(colour + Math.floor(at / seriesColours.length)) % 4] ?? 'circle' }
}

/** How a pruned model's weights were treated: by a repair, by a recovery, or by both. */
export type Treatment = RepairKind | 'recovered' | `${RepairKind} recovered`

const treatmentShapes: Record<Treatment, MarkShape> = {
  'one-pass': 'cross',
  'in-order': 'star',
  recovered: 'wye',
  'one-pass recovered': 'times',
  'in-order recovered': 'triangle-down',
}
const treatmentTitles: Record<Treatment, string> = {
  ...repairTitles,
  recovered: 'recovered',
  'one-pass recovered': `${repairTitles['one-pass']}, recovered`,
  'in-order recovered': `${repairTitles['in-order']}, recovered`,
}

/** Returns the look of a repaired or recovered plan: its method's colour with another shape. */
export function treatedLook<Look extends { shape: MarkShape }>(look: Look, treatment: Treatment | null): Look {
  return treatment ? { ...look, shape: treatmentShapes[treatment] } : look
}

/** Returns how the plan of a run was repaired or recovered; null if it was not. */
export function treatmentOf({ parameters }: { parameters: Readonly<Record<string, ParameterValue>> }): Treatment | null {
  const repair = (parameters['repair.kind'] ?? null) as RepairKind | null
  if (parameters['recover.text.source'] === undefined) return repair
  return repair ? `${repair} recovered` : 'recovered'
}

/** Returns the id of a run's series in charts, from its method and treatment. */
export function seriesId(method: string, treatment: Treatment | null): string {
  return treatment ? `${method} ${treatment}` : method
}

export function seriesTitle(method: string, treatment: Treatment | null): string {
  return treatment ? `${titleOfMethod(method)}, ${treatmentTitles[treatment]}` : titleOfMethod(method)
}
