import type { Grid, Preset } from '#contract/experiments/experiments.ts'
import type { FeasibleRange } from '#contract/models/models.ts'

export interface PresetModel {
  id: string
  contextLength: number
  /** Whether it is the bundled sample or was pruned from it. */
  ofSample: boolean
  /** Whether a GGUF file can hold it after pruning by 2SSP. */
  holdsGguf: boolean
  /** Smaller models of its family in the library. */
  siblings: readonly string[]
  feasible: readonly Pick<FeasibleRange, 'method' | 'maximum'>[]
}

/** A preset, given by its differences from the default grid. */
export type Draft = Omit<Preset, 'grid'> & { grid: Partial<Grid> }
