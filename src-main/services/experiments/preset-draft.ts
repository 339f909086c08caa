import type { Grid, Preset } from '#contract/experiments/experiments.ts'
import type { FeasibleRange } from '#contract/models/models.ts'

/** What presets need to know about the chosen model. */
export interface PresetModel {
  id: string
  contextLength: number
  /** Whether the model is the bundled sample or was pruned from it. */
  ofSample: boolean
  /** Whether a GGUF file can hold the model after pruning by its best method. */
  holdsGguf: boolean
  /** Ids of smaller models of the same family in the library. */
  siblings: readonly string[]
  feasible: readonly Pick<FeasibleRange, 'method' | 'maximum'>[]
}

/** Returns the id of the method that keeps most of a model, and the reason to choose it. `inGguf` is set if GGUF files must hold the result. */
export function bestMethod({ feasible }: Pick<PresetModel, 'feasible'>, inGguf = false): { id: string; reason: string } {
  const mostOf = (id: string) => feasible.find(({ method }) => method === id)?.maximum
  if (mostOf('gates') === 0) return { id: '2ssp', reason: '2SSP, because gates cannot be trained through this model’s attention sinks.' }
  if (inGguf && mostOf('reap') !== 0)
    return { id: '2ssp', reason: '2SSP, because gates leave blocks different numbers of experts, which GGUF files cannot hold.' }
  return { id: 'gates', reason: 'Gates keep most of a model, because they follow the loss of the whole model.' }
}

/** A preset, given by its differences from the default grid. */
export type Draft = Omit<Preset, 'grid'> & { grid: Partial<Grid> }
