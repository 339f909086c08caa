import type { Grid, Preset } from '#contract/experiments/experiments.ts'

export interface PresetModel {
  id: string
  contextLength: number
}

/** A preset by its differences from the usual grid. */
export type Draft = Omit<Preset, 'grid'> & { grid: Partial<Grid> }
