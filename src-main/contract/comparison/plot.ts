import { z } from 'zod'

const axis = z.object({ label: z.string(), scale: z.enum(['linear', 'log']) })

/** A line with circles at its points, or only marks if `marker` is set. `spread` is drawn as an error bar of this length on both sides, or of this factor. */
const series = z.object({
  name: z.string(),
  marker: z.enum(['circle', 'square']).optional(),
  points: z.array(z.object({ x: z.number(), y: z.number(), spread: z.number().optional(), factor: z.boolean().optional() })),
})

/** A plot as data, independent of how it is drawn. */
export const plot = z.object({ title: z.string(), x: axis, y: axis, series: z.array(series) })

export type Plot = z.infer<typeof plot>
export type Axis = z.infer<typeof axis>
export type Series = z.infer<typeof series>
