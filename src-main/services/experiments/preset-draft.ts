import type { Grid, Preset } from '#contract/experiments/experiments.ts'

export interface PresetModel {
  id: string
  contextLength: number
  /** The bundled sample, or pruned from it. */
  ofSample: boolean
}

/** A preset by its differences from the usual grid. */
export type Draft = Omit<Preset, 'grid'> & { grid: Partial<Grid> }
