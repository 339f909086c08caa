import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type OpenedOnSlurm, openOnSlurm, search } from './opened-on-slurm.ts'
import { outcome } from './outcome.ts'
import { hasSlurm } from './slurm-daemons.ts'

describe.skipIf(!hasSlurm())('time limits of a real Slurm', () => {
  let opened: OpenedOnSlurm

  beforeAll(async () => {
    opened = await openOnSlurm()
  }, 120_000)
  afterAll(() => opened?.close(), 60_000)

  test('a job that meets its time limit goes on at its last step, whether it was told before or not', async () => {
    const folderOf = (name: string) => join(opened.slurm.shared, name)
    // Of two folders, so that neither finds steps of the other. The first gets a signal that means nothing to it.
    await opened.addCluster('untold', { folder: folderOf('untold'), time: '1', lines: '#SBATCH --signal=B:CONT@5' })
    await opened.addCluster('told', { folder: folderOf('told'), time: '2' })
    const few = 6
    const { seconds } = await opened.done((await opened.make(null, search(few))).id)
    // Slurm counts limits in minutes and looks at them every half.
    const windows = Math.ceil((few * 105) / (seconds ?? Number.NaN))
    const [untold, told, here] = await Promise.all(
      (['untold', 'told', null] as const).map(async (cluster) => {
        const { id } = await opened.make(cluster, search(windows))
        return opened.done(id, 800_000)
      }),
    )
    const printed = (name: string) =>
      readdirSync(join(folderOf(name), 'logs'))
        .map((file) => readFileSync(join(folderOf(name), 'logs', file), 'utf8'))
        .join('\n')
    expect(printed('untold')).toMatch(/DUE TO TIME LIMIT/)
    expect(printed('told')).toMatch(/steps are kept and the job is requeued/)
    for (const run of [untold, told]) {
      expect(run?.attempts).toBeGreaterThan(1)
      expect(run && outcome(run)).toEqual(here && outcome(here))
    }
  }, 900_000)
})
