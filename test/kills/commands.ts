import type { ChildProcess } from 'node:child_process'
import { forgetSteps } from '../jobs/watching.ts'
import {
  attempts,
  calibration,
  type Killed,
  type Killing,
  measureUndisturbed,
  pause,
  planIn,
  requireSamePlan,
  requireWhole,
  startCommand,
  statuses,
} from './subject.ts'

/** Starts the same command again and again and kills it; one that ends by itself has found what was left and must have the plan. */
export async function killCommands({ model, plan, seconds, random, count, folder, flags }: Killing): Promise<Killed> {
  const killed = { kills: 0, interrupted: 0, done: 0 }
  while (killed.kills < count) {
    const { child, printed } = startCommand(model, folder, flags)
    // Most are killed while they prune; the others wherever they are, mostly while they start.
    if (random() < 0.8) await untilRunning(folder, child)
    await Promise.race([pause(random() * seconds * 500), printed.catch(() => {})])
    if (child.exitCode === null && child.kill('SIGKILL')) {
      killed.kills++
      await new Promise((resolve) =>
        child.exitCode === null && child.signalCode === null ? child.once('exit', resolve) : resolve(undefined),
      )
      if (statuses(folder).includes('running')) killed.interrupted++
    } else {
      requireSamePlan(planIn(await printed), plan)
      killed.done++
      forgetSteps(folder)
    }
    requireWhole(folder)
  }
  requireSamePlan(planIn(await startCommand(model, folder, flags).printed), plan)
  killed.done++
  requireWhole(folder)
  const stuck = statuses(folder).filter((status) => status === 'running' || status === 'queued')
  if (stuck.length > 0) throw new Error(`${stuck.length} runs are stuck.`)
  return killed
}

async function untilRunning(folder: string, child: ChildProcess): Promise<void> {
  // Before, the row of an earlier start may still say so.
  const before = attempts(folder)
  while (child.exitCode === null && child.signalCode === null && attempts(folder) === before) await pause(50)
}

const repair = ['--repair=in-order', `--repair_data=${calibration.source}`, '--repair_samples=8']

/** The same with a repair after the pruning, which leaves files of tensors. */
export async function killRepairs(killing: Killing): Promise<Killed> {
  const undisturbed = await measureUndisturbed(killing.model, `${killing.folder}-undisturbed`, repair)
  if (!undisturbed.plan.tensors?.length) throw new Error('The repair left no tensors.')
  return killCommands({ ...killing, ...undisturbed, flags: repair })
}
