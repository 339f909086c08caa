import { z } from 'zod'
import { gateStep, neuronScores } from '../pruning/gates.ts'
import { recoveryPoint } from '../pruning/recovery.ts'
import { measure } from './measures.ts'
import { decision, selection, spectrum } from './run.ts'
import { progress } from './time/progress.ts'

/** Events of a run in progress. */
export const runEvent = z.discriminatedUnion('type', [
  z.object({ type: z.literal('progress'), progress }),
  /** The fingerprint of the model that the following numbers belong to. */
  z.object({ type: z.literal('model'), fingerprint: z.string() }),
  z.object({ type: z.literal('decision'), decision }),
  z.object({ type: z.literal('selection'), selection }),
  /** Decided widths: neurons kept per block, out of `of`. */
  z.object({ type: z.literal('width'), kept: z.array(z.number().int()), of: z.number().int() }),
  /** Scores of all neurons per block, with the smallest score that is kept. */
  z.object({ type: z.literal('neuron scores'), ...neuronScores.shape }),
  z.object({ type: z.literal('spectrum'), spectrum }),
  z.object({ type: z.literal('measure'), measure }),
  /** A measurement during a recovery. The first is taken before training. */
  z.object({ type: z.literal('recovery'), point: recoveryPoint }),
  /** A step of a training of gates. */
  z.object({ type: z.literal('gates'), step: gateStep }),
  z.object({ type: z.literal('note'), text: z.string() }),
])

export type RunEvent = z.infer<typeof runEvent>
