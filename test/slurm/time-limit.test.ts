import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { namesIn, runFolderOf } from '#jobs/cluster/run-folder.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { eventually } from '../eventually.ts'
import { processesOf } from '../jobs/kill-checks.ts'
import { type OpenedOnSlurm, openOnSlurm } from './opened-on-slurm.ts'
import { outcome } from './outcome.ts'
import { hasSlurm } from './slurm-daemons.ts'

describe.skipIf(!hasSlurm())('time limits of a real Slurm', () => {
  let opened: OpenedOnSlurm

  beforeAll(async () => {
    opened = await openOnSlurm()
  })
  afterAll(() => opened?.close())

  const folderOf = (name: string) => join(opened.slurm.shared, name)

  /** Freezes a run after its first step, so that its job reaches the time limit on a machine of any speed. */
  async function freeze(cluster: string, id: string): Promise<void> {
    const { steps } = runFolderOf(folderOf(cluster), id)
    await eventually(() => namesIn(steps).length > 0, `a step of ${id}`, 120_000)
    const main = processesOf(null, `${id}/request.json`)
    const frozen = main.flatMap((parent) => processesOf(parent, defaultComputeCommand().at(-1) as string))
    expect(frozen).toHaveLength(1)
    for (const pid of frozen) process.kill(pid, 'SIGSTOP')
  }

  test('a job that reaches its time limit resumes at its last step, whether it was warned or not', async () => {
    // Of two folders, so that neither finds steps of the other. The first gets a signal that means nothing to it.
    await opened.addCluster('unwarned', { folder: folderOf('unwarned'), time: '1', lines: '#SBATCH --signal=B:CONT@5' })
    await opened.addCluster('warned', { folder: folderOf('warned'), time: '2' })
    const [unwarned, warned] = await Promise.all(
      ['unwarned', 'warned'].map(async (cluster) => {
        const { id } = await opened.make(cluster)
        await freeze(cluster, id)
        return opened.done(id)
      }),
    )
    const here = await opened.done((await opened.make(null)).id)
    const printed = (name: string) =>
      readdirSync(join(folderOf(name), 'logs'))
        .map((file) => readFileSync(join(folderOf(name), 'logs', file), 'utf8'))
        .join('\n')
    expect(printed('unwarned')).toMatch(/DUE TO TIME LIMIT/)
    expect(printed('warned')).toMatch(/the job is requeued. Finished steps that are kept: /)
    for (const run of [unwarned, warned]) {
      expect(run?.attempts).toBeGreaterThan(1)
      expect(run && outcome(run)).toEqual(outcome(here))
    }
  })
})
