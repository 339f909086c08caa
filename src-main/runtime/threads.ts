import { availableParallelism } from 'node:os'
import { env } from 'node:process'

/** The threads that this process may compute with: its share of the processor, otherwise one for each core. */
export const ownThreads = (): number => Number(env.TF_NUM_INTRAOP_THREADS) || availableParallelism()
