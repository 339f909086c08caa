import { chmodSync, existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { runFile } from '#contract/clusters/run-file.ts'
import { readWhole, runFolderOf } from '#jobs/cluster/run-folder.ts'
import { espalierCommand } from '#jobs/compute/compute-command.ts'
import { eventually } from '../eventually.ts'
import { data, type OpenedOnSlurm, openOnSlurm, search } from './opened-on-slurm.ts'
import { outcome } from './outcome.ts'
import { hasSlurm } from './slurm-daemons.ts'
import { hasSshServer, openSshDoor, type SshDoor } from './ssh-door.ts'

describe.skipIf(!hasSlurm() || !hasSshServer())('a Slurm behind ssh, whose folder is not seen here', () => {
  let opened: OpenedOnSlurm
  let door: SshDoor
  let there: string

  beforeAll(async () => {
    opened = await openOnSlurm()
    door = await openSshDoor(opened.slurm.environment)
    // Slurm's commands can reach this Slurm only at the other end of ssh.
    delete process.env.SLURM_CONF
    there = opened.slurm.shared
    const program = join(opened.slurm.folder, 'espalier')
    writeFileSync(program, `#!/bin/sh\nexec ${espalierCommand().join(' ')} "$@"\n`)
    chmodSync(program, 0o755)
    await opened.addCluster('far', { host: door.host, copies: true, program, partition: '' })
  })
  afterEach(() => opened.clear())
  afterAll(async () => {
    await opened?.close()
    await door?.stop()
  })

  const make = (executor: string | null, method: string) =>
    opened.make(executor, { method, options: {}, calibration: data('calibration', 8), seed: 1 })

  test('a cluster that files are copied to needs a host and a program', async () => {
    const save = (changes: object) => opened.addCluster('near', { copies: true, ...changes })
    await expect(save({})).rejects.toThrow('Set the host')
    await expect(save({ host: 'login-node' })).rejects.toThrow('Set the program')
  })

  test('the check finds the host, rsync, the folder and what computes on a node', async () => {
    const findings = await opened.workbench.call('clusters.check', { name: 'far' })
    expect(findings.filter(({ works }) => works === false)).toEqual([])
    expect(findings.map(({ what }) => what)).toEqual(expect.arrayContaining(['ssh login-node', 'rsync', 'shared folder', 'a node']))
    expect(readdirSync(join(there, 'probes')).filter((name) => !name.startsWith('sent'))).toEqual([])
  })

  test('runs are computed from copies, come back with their tensors, and end as runs here', async () => {
    const methods = ['2ssp', 'slicegpt'] as const
    const sent = await Promise.all(methods.map((method) => make('far', method)))
    const request = await eventually(
      () => readWhole(runFile, runFolderOf(there, sent[1]?.id as string).request)?.request,
      'a request',
      60_000,
    )
    expect(request.model).toMatch(new RegExp(`^${there}/models/[0-9a-f]{64}/[^/]+$`))
    expect(request.calibration?.source).toMatch(new RegExp(`^${there}/texts/[0-9a-f]{64}/calibration.txt$`))
    const far = await Promise.all(sent.map(({ id }) => opened.done(id)))
    expect(far[0]?.calibration?.source).toBe(data('calibration', 8).source)
    expect(far[1]?.plan?.tensors?.every(({ file }) => file.startsWith(join(opened.slurm.folder, 'data')) && existsSync(file))).toBe(true)
    const near = await Promise.all((await Promise.all(methods.map((method) => make(null, method)))).map(({ id }) => opened.done(id)))
    expect(far.map(outcome)).toEqual(near.map(outcome))
    await eventually(() => sent.every(({ id }) => !existsSync(runFolderOf(there, id).root)), 'the end of copies there')
  })

  test('cancelling reaches the job, and what it had done is kept for a resume', async () => {
    const run = await opened.make('far', search(8))
    await eventually(async () => (await opened.get(run.id)).stepsDone >= 1, 'a step', 120_000)
    await opened.workbench.call('runs.cancel', { ids: [run.id] })
    await eventually(() => opened.slurm.ask('squeue', '--noheader') === '', 'the end of the job', 30_000)
    expect((await opened.get(run.id)).stepsDone).toBeGreaterThan(0)
  })
})
