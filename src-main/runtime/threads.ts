import { availableParallelism } from 'node:os'
import { env } from 'node:process'

/** Returns how many threads this process may compute with: its share of the processor if that was set, else one per processor. */
export const ownThreads = (): number => Number(env.TF_NUM_INTRAOP_THREADS) || availableParallelism()
