import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { emptyProfile } from '#contract/empty-cluster.ts'
import { runFile } from '#contract/run-file.ts'
import { readWhole, runFolderOf } from '#jobs/cluster/run-folder.ts'
import { defaultComputeCommand, espalierCommand } from '#services/compute-command.ts'
import { sampleModel } from '#services/sample-model.ts'
import { eventually, type Opened, openedWorkbench, runEnded } from '../services/opened.ts'
import { outcome } from './outcome.ts'
import { hasSlurm, type SlurmDaemons, startSlurm } from './slurm-daemons.ts'
import { hasSshServer, openSshDoor, type SshDoor } from './ssh-door.ts'

const sample = sampleModel() as string
const data = (name: string, windows: number) => ({ source: join(sample, `${name}.txt`), sequenceLength: 128, windows })

describe.skipIf(!process.env.ESPALIER_TEST_SLURM || !hasSlurm() || !hasSshServer())(
  'a Slurm behind ssh, whose folder is not seen here',
  () => {
    let slurm: SlurmDaemons
    let door: SshDoor
    let workbench: Opened
    const home = mkdtempSync(join(tmpdir(), 'espalier-behind-ssh-'))
    const there = join(home, 'there')

    beforeAll(async () => {
      slurm = await startSlurm()
      door = await openSshDoor(slurm.environment)
      process.env.TF_NUM_INTRAOP_THREADS = '1'
      const program = join(home, 'espalier')
      writeFileSync(program, `#!/bin/sh\nexec ${espalierCommand().join(' ')} "$@"\n`)
      chmodSync(program, 0o755)
      mkdirSync(there)
      workbench = await openedWorkbench({
        folder: join(home, 'here'),
        computeCommand: defaultComputeCommand(),
        modelPath: sample,
        clusterTimings: { lookMilliseconds: 500, askMilliseconds: 1000 },
      })
      await workbench.call('clusters.save', {
        cluster: { ...emptyProfile, name: 'far', host: door.host, folder: there, copies: true, program },
      })
    }, 120_000)

    afterAll(async () => {
      await workbench?.close()
      await door?.stop()
      await slurm?.stop()
      rmSync(home, { recursive: true, force: true })
    }, 60_000)

    const make = (executor: string | null, method: string, options = {}) =>
      workbench.call('runs.create', {
        model: workbench.model.id,
        executor,
        request: {
          method,
          amount: { sparsity: 0.4 },
          options,
          seed: 1,
          calibration: data('calibration', 8),
          measures: [{ kind: 'perplexity', data: data('test', 8), name: 'test' }],
          backend: 'auto',
        },
      })

    test('a cluster that files are copied to needs a host and a program', async () => {
      const save = (changes: object) =>
        workbench.call('clusters.save', { cluster: { ...emptyProfile, name: 'near', folder: there, copies: true, ...changes } })
      await expect(save({})).rejects.toThrow('name the host')
      await expect(save({ host: 'login-node' })).rejects.toThrow('Name the program')
    })

    test('the check finds the host, rsync, the folder and what computes on a node', async () => {
      const findings = await workbench.call('clusters.check', { name: 'far' })
      expect(findings.filter(({ works }) => works === false)).toEqual([])
      expect(findings.map(({ what }) => what)).toEqual(expect.arrayContaining(['ssh login-node', 'rsync', 'shared folder', 'a node']))
      expect(readdirSync(join(there, 'probes')).filter((name) => !name.startsWith('sent'))).toEqual([])
    }, 60_000)

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
      const far = await Promise.all(sent.map(({ id }) => runEnded(workbench, id)))
      expect(far.map(({ status, problem }) => [status, problem])).toEqual(methods.map(() => ['done', null]))
      expect(far[0]?.calibration?.source).toBe(data('calibration', 8).source)
      expect(far[1]?.plan?.tensors?.every(({ file }) => file.startsWith(join(home, 'here')) && existsSync(file))).toBe(true)
      const near = await Promise.all(
        (await Promise.all(methods.map((method) => make(null, method)))).map(({ id }) => runEnded(workbench, id)),
      )
      expect(far.map(outcome)).toEqual(near.map(outcome))
      await eventually(() => sent.every(({ id }) => !existsSync(runFolderOf(there, id).root)), 'the end of copies there')
    }, 180_000)

    test('cancelling reaches the job, and what it had done is kept for when it goes on', async () => {
      const run = await make('far', 'blockpruner_submodule', { windows: 8 })
      const get = () => workbench.call('runs.get', { id: run.id })
      await eventually(async () => (await get()).stepsDone >= 1, 'a step', 120_000)
      await workbench.call('runs.cancel', { ids: [run.id] })
      await eventually(() => slurm.ask('squeue', '--noheader').trim() === '', 'the end of the job', 30_000)
      expect((await get()).stepsDone).toBeGreaterThan(0)
    }, 120_000)
  },
)
