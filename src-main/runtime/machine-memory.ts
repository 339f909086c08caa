import { totalmem } from 'node:os'
import { env } from 'node:process'

/** Returns the default memory budget: 60 % of the machine's memory, which other programs use too, or of this process's share of it. */
export const machineBudget = (): number => Math.floor((Number(env.ESPALIER_MEMORY) || totalmem()) * 0.6)
