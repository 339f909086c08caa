import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { api } from '#contract/api.ts'
import { type ClusterProfile, clusterProfile, emptyProfile } from '#contract/clusters/clusters.ts'
import { runFile } from '#contract/clusters/run-file.ts'
import { batchScript } from '#jobs/cluster/batch-script.ts'
import { overSsh, quoteWord } from '#jobs/cluster/cluster-shell.ts'
import { readWhole, runFolderOf } from '#jobs/cluster/run-folder.ts'
import { eventually } from '../../eventually.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { type Opened, openedWorkbench } from '../../services/opened.ts'

/** Names with a meaning for a shell, ssh, Slurm's patterns or the lines of a batch script. */
const hostile = [
  'a b',
  "a'b",
  'a"b',
  'a;touch PWNED',
  'a\ntouch PWNED',
  'a\n#SBATCH --wrap=x',
  '$(touch PWNED)',
  '`touch PWNED`',
  '$HOME',
  '$' + '{IFS}',
  'a|touch PWNED',
  'a&touch PWNED',
  'a>PWNED',
  'a<b',
  '-oProxyCommand=touch PWNED',
  '--wrap=touch PWNED',
  "'; touch PWNED; '",
  '"; touch PWNED; "',
  "'\\''",
  'a\\',
  '*',
  '~root',
  '!!',
  '%A_%a',
  'a\tb',
  '\r\n',
  'ünï cødé',
  '日本語; rm',
  '{a,b}',
  '(a)',
  '[a]',
  'a#b',
  '',
] as const

const good: ClusterProfile = { ...emptyProfile, name: 'test', folder: '/shared/espalier' }
const fields = ['name', 'host', 'folder', 'program', 'partition', 'account', 'time', 'memory'] as const

describe.each(hostile.map((name) => [name]))('%j', (name) => {
  test('is one word of a shell, also behind ssh', () => {
    const printed = execFileSync('sh', ['-c', `printf %s ${quoteWord(name)}`], { encoding: 'utf8' })
    expect(printed).toBe(name)
    const command = overSsh('host', ['printf', '%s', name])
    expect(command.slice(0, -1).at(-2)).toBe('--')
    expect(execFileSync('sh', ['-c', command.at(-1) as string], { encoding: 'utf8' })).toBe(name)
  })

  test('is refused in every field of a cluster', () => {
    const taken = fields.filter((field) => clusterProfile.safeParse({ ...good, [field]: name }).success)
    // The cluster decides what is left out.
    expect(taken).toEqual(name === '' ? fields.filter((field) => field !== 'name' && field !== 'folder') : [])
  })
})

test('lines of a profile come from a cluster that is saved, and no grid, run or file can bring any', () => {
  const injected = { ...good, lines: 'touch PWNED' }
  for (const call of ['experiments.create', 'runs.create', 'runs.clone', 'runs.replay', 'experiments.import'] as const) {
    const fieldsOf = JSON.stringify(Object.keys((api[call].input as unknown as { shape: object }).shape))
    expect(fieldsOf, call).not.toMatch(/lines|cluster|profile/)
  }
  expect(
    api['experiments.create'].input.safeParse({ name: 'x', grid: { models: ['model-1'], methods: [], amounts: [] }, executor: injected })
      .success,
  ).toBe(false)
  expect(clusterProfile.safeParse({ ...good, lines: 'a\u0000b' }).success).toBe(false)
  const script = batchScript(
    { ...good, lines: '#SBATCH --constraint=a100\nmodule load cuda' },
    { submission: 'sent-1', runs: ['run-1'], program: ['node', 'x'] },
  )
  expect(script.indexOf('--constraint')).toBeLessThan(script.indexOf('module load'))
  expect(
    script
      .split('\n')
      .slice(0, script.split('\n').indexOf(''))
      .every((line) => line.startsWith('#')),
  ).toBe(true)
})

describe.skipIf(process.platform === 'win32')('runs of models, texts and experiments with such names', () => {
  const home = scratchFolder('hostile')
  let workbench: Opened
  const path = process.env.PATH

  /** Fakes of Slurm's programs that record their arguments, accept every job and let it wait. The run of a lost job is submitted again. */
  function recordingSlurm(): void {
    const bin = join(home, 'bin')
    mkdirSync(bin)
    const note = `printf '%s\\n' "$0" "$@" >> '${home}/words'; `
    writeFileSync(join(bin, 'sbatch'), `#!/bin/sh\n${note}cat >> '${home}/scripts'; echo 17\n`)
    const waiting = { job_id: 17, array_task_string: '0-99', name: 'espalier-sent', job_state: 'PENDING' }
    writeFileSync(join(bin, 'squeue'), `#!/bin/sh\n${note}echo '${JSON.stringify({ jobs: [waiting] })}'\n`)
    for (const name of ['scontrol', 'scancel', 'sacct']) writeFileSync(join(bin, name), `#!/bin/sh\n${note}\n`)
    // A local shell runs what ssh was given, as a remote one would.
    writeFileSync(join(bin, 'ssh'), `#!/bin/sh\n${note}for last; do :; done; case "$last" in *rsync*) exit 12;; esac; exec sh -c "$last"\n`)
    writeFileSync(join(bin, 'rsync'), `#!/bin/sh\nprintf '%s\\n' "$@" >> '${home}/copied'\ncat > /dev/null\n`)
    for (const name of ['sbatch', 'squeue', 'scontrol', 'scancel', 'sacct', 'ssh', 'rsync']) chmodSync(join(bin, name), 0o755)
    process.env.PATH = `${bin}:${path}`
  }

  beforeAll(async () => {
    recordingSlurm()
    workbench = await openedWorkbench({ folder: join(home, 'data'), clusterTimings: { lookMilliseconds: 20, askMilliseconds: 60_000 } })
    await workbench.call('clusters.save', { cluster: { ...good, folder: join(home, 'shared') } })
  })

  afterAll(async () => {
    await workbench.close()
    process.env.PATH = path
  })

  const usable = hostile.filter((name) => name !== '' && !name.includes('/'))

  /** Submits runs whose model, text, option, name, tag and notes have each of the names. */
  async function sendAll(executor: string) {
    const made = []
    for (const name of usable) {
      const folder = join(home, executor, name)
      mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, 'config.json'), '{}')
      const model = await workbench.call('models.add', { path: folder, name: name.trim() || 'blank' })
      const text = join(folder, `${name}.txt`)
      writeFileSync(text, 'text')
      const data = { source: text, sequenceLength: 8 }
      const request = {
        method: '2ssp',
        amount: { sparsity: 0.25 },
        options: { alpha: name },
        seed: 0,
        calibration: data,
        measures: [],
        backend: 'auto' as const,
      }
      const run = await workbench.call('runs.create', { model: model.id, name: name.trim() || 'blank', executor, request })
      await workbench.call('runs.update', { ids: [run.id], addTags: [name.trim() || 'blank'], notes: name })
      made.push({ id: run.id, folder, text })
    }
    return made
  }

  function expectOnlyRuns(made: readonly { id: string }[]): void {
    const words = readFileSync(join(home, 'words'), 'utf8')
    const scripts = readFileSync(join(home, 'scripts'), 'utf8')
    for (const name of usable.filter((one) => one.length > 3 && one !== '%A_%a')) expect(words + scripts, name).not.toContain(name)
    const sent = scripts.match(/^runs=\((.*)\)$/gm)?.flatMap((line) => line.slice(6, -1).split(' '))
    expect(sent?.toSorted()).toEqual(made.map(({ id }) => id).toSorted())
    expect(existsSync('PWNED') || existsSync(join(home, 'PWNED')) || existsSync(join(home, 'shared', 'PWNED'))).toBe(false)
    for (const file of ['words', 'scripts']) rmSync(join(home, file))
  }

  test('appear in request files and reach no command and no script', async () => {
    const made = await sendAll('test')
    await eventually(
      async () => (await workbench.call('queue.get', {})).runs.every(({ job }) => job?.id?.startsWith('17_')),
      'all to be sent',
    )
    for (const { id, folder, text } of made) {
      const asked = readWhole(runFile, runFolderOf(join(home, 'shared'), id).request)
      expect(asked?.request).toMatchObject({ model: folder, calibration: { source: text } })
    }
    expectOnlyRuns(made)
    await workbench.call('runs.cancel', { ids: made.map(({ id }) => id) })
  })

  test('behind ssh they are whole words of rsync below a path of this machine, and reach no shell at the other end', async () => {
    const there = join(home, 'there')
    await workbench.call('clusters.save', {
      cluster: { ...good, name: 'far', host: 'login-node', folder: there, copies: true, program: '/opt/espalier' },
    })
    const made = await sendAll('far')
    await eventually(
      async () => (await workbench.call('queue.get', {})).runs.every(({ job }) => job?.id?.startsWith('17_')),
      'all to be sent',
    )
    expectOnlyRuns(made)
    const copied = readFileSync(join(home, 'copied'), 'utf8')
    for (const { folder, text } of made) for (const path of [folder, text]) expect(copied).toContain(`\n--\n${path}\nlogin-node:${there}/`)
    for (const { id, folder } of made) {
      const asked = readWhole(runFile, runFolderOf(join(home, 'data', 'clusters', 'far'), id).request)
      expect(asked?.request.model).toBe(`${there}/models/${asked?.request.model.split('/').at(-2)}/${folder.split('/').at(-1)}`)
    }
  })
})
