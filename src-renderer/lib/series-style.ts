import { type MarkShape, plainColours, seriesColours, seriesLook, type Treatment, treatedLook } from '#contract/comparison/series.ts'

/** The look of a series. Its CSS colour follows the theme. */
export interface SeriesStyle {
  color: string
  shape: MarkShape
}

export function seriesStyle(method: string, treatment: Treatment | null = null): SeriesStyle {
  const { colour, shape } = treatedLook(seriesLook(method), treatment)
  return { color: seriesColor(colour), shape }
}

/** The CSS colour at an index of the list, which starts over at its end. Null gives the colour of no series. */
export function seriesColor(at: number | null): string {
  const { light, dark } = at === null ? plainColours : (seriesColours[at % seriesColours.length] ?? plainColours)
  return `light-dark(${light}, ${dark})`
}
