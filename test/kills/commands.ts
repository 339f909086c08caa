import type { ChildProcess } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'
import { forgetSteps } from '../jobs/kill-checks.ts'
import {
  attempts,
  calibration,
  evaluation,
  type Killed,
  type Killing,
  killHard,
  measureUndisturbed,
  outcomeIn,
  requireSame,
  requireWhole,
  startPruning,
  statuses,
} from './subject.ts'

/**
 * Starts the same command and kills it, again and again; one that ends by itself has resumed from what was left and must have the expected
 * plan.
 */
export async function killCommands(killing: Killing): Promise<Killed> {
  const { outcome, seconds, random, count, folder, during } = killing
  const killed = { kills: 0, interrupted: 0, done: 0 }
  // Adapts to the speed of the machine: shorter after a command that ended first, longer after one that was killed.
  let longest = seconds * 500
  while (killed.kills < count) {
    const { child, printed } = startPruning(killing)
    // Most are killed while they prune, the others at any moment, mostly while they start.
    if (random() < 0.8) await untilRunning(child, folder, during)
    await Promise.race([pause(random() * longest), printed.catch(() => {})])
    if (await killHard(child)) {
      killed.kills++
      longest *= 1.1
      if (statuses(folder, during).includes('running')) killed.interrupted++
    } else {
      requireSame(outcomeIn(await printed), outcome)
      killed.done++
      longest *= 0.7
      forgetSteps(folder)
    }
    requireWhole(folder)
  }
  requireSame(outcomeIn(await startPruning(killing).printed), outcome)
  killed.done++
  requireWhole(folder)
  const stuck = statuses(folder).filter((status) => status === 'running' || status === 'queued')
  if (stuck.length > 0) throw new Error(`${stuck.length} runs are stuck.`)
  return killed
}

async function untilRunning(child: ChildProcess, folder: string, method?: string): Promise<void> {
  // Needed because the row of an earlier start may still say so.
  const before = attempts(folder, method)
  while (child.exitCode === null && child.signalCode === null && attempts(folder, method) === before) await pause(50)
}

const repair = ['--repair=in-order', `--repair_data=${calibration.source}`, '--repair_samples=8']

/** The same with a repair after the pruning, which leaves files of tensors. */
export async function killRepairs(killing: Killing): Promise<Killed> {
  const undisturbed = await measureUndisturbed({ ...killing, folder: `${killing.folder}-undisturbed`, flags: repair })
  if (!undisturbed.outcome.plan.tensors?.length) throw new Error('The repair left no tensors.')
  return killCommands({ ...killing, ...undisturbed, flags: repair })
}

const training = ['--recover=16384', `--recover_data=${calibration.source}`]

/** The same with a recovery, whose state is stored at each of its eight measurements. */
export async function killRecoveries(killing: Killing): Promise<Killed> {
  const undisturbed = await measureUndisturbed({ ...killing, folder: `${killing.folder}-undisturbed`, flags: training })
  if (!undisturbed.outcome.plan.finalNorm) throw new Error('The recovery took no weights, so a kill could change nothing.')
  return killCommands({ ...killing, ...undisturbed, flags: training })
}

const divergenceFlags = ['--evaluate_divergence', `--eval_data=${evaluation}`, '--divergence_tokens=8000']

/** The same with a comparison with the dense model after the pruning; kills wait for that comparison. */
export async function killDivergences(killing: Killing): Promise<Killed> {
  const asked = { ...killing, flags: divergenceFlags, during: 'divergence' }
  const { outcome, seconds } = await measureUndisturbed({ ...asked, folder: `${killing.folder}-undisturbed` })
  if (!outcome.divergence) throw new Error('The command compared nothing.')
  return killCommands({ ...asked, outcome, seconds: Math.max(0.5, seconds - killing.seconds) })
}
