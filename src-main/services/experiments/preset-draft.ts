import type { Grid, Preset } from '#contract/experiments/experiments.ts'
import type { FeasibleRange } from '#contract/models/models.ts'

/** What presets need to know about the chosen model. */
export interface PresetModel {
  id: string
  contextLength: number
  /** Whether the model is the bundled sample or was pruned from it. */
  ofSample: boolean
  /** Whether a GGUF file can hold the model after pruning by 2SSP. */
  holdsGguf: boolean
  /** Ids of smaller models of the same family in the library. */
  siblings: readonly string[]
  feasible: readonly Pick<FeasibleRange, 'method' | 'maximum'>[]
}

/** A preset, given by its differences from the default grid. */
export type Draft = Omit<Preset, 'grid'> & { grid: Partial<Grid> }
