export const markShapes = ['circle', 'square', 'triangle', 'diamond', 'cross', 'star', 'wye'] as const
export type MarkShape = (typeof markShapes)[number]

/** How a method looks in every chart: colour and shape together, so that neither has to be told apart alone. */
export interface SeriesStyle {
  color: string
  shape: MarkShape
}

/** Styles by first appearance in the registry's order; a ninth method starts the colours again with another shape. */
export function seriesStyle(methods: readonly string[], method: string): SeriesStyle {
  if (method === 'dense') return { color: 'var(--ink-soft)', shape: 'wye' }
  const at = methods.filter((id) => id !== 'dense').indexOf(method)
  // Until the registry is known, no colour that would later change.
  if (at < 0) return { color: 'var(--ink-faint)', shape: 'circle' }
  return { color: `var(--series-${at % 8})`, shape: markShapes[(at + Math.floor(at / 6)) % 6] ?? 'circle' }
}

/** A repaired plan has its method's colour and another shape: cross after one pass, star in order. */
export function repairedStyle(style: SeriesStyle, repair: 'one-pass' | 'in-order' | null): SeriesStyle {
  return repair ? { ...style, shape: repair === 'one-pass' ? 'cross' : 'star' } : style
}
