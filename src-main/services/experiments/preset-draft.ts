import type { Grid, Preset } from '#contract/experiments/experiments.ts'
import type { FeasibleRange } from '#contract/models/models.ts'

export interface PresetModel {
  id: string
  contextLength: number
  /** The bundled sample, or pruned from it. */
  ofSample: boolean
  /** Whether a GGUF file can hold what 2SSP leaves of it. */
  holdsGguf: boolean
  /** Smaller models of its family in the library. */
  siblings: readonly string[]
  feasible: readonly Pick<FeasibleRange, 'method' | 'maximum'>[]
}

/** A preset by its differences from the usual grid. */
export type Draft = Omit<Preset, 'grid'> & { grid: Partial<Grid> }
