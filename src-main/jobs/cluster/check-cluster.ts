import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ClusterFinding, ClusterProfile } from '#contract/clusters/clusters.ts'
import { toErrorMessage } from '#contract/errors.ts'
import { newId } from '#db/ids.ts'
import { jobName, probeScript } from './batch-script.ts'
import { requireHere } from './cluster-files.ts'
import { type ClusterShell, type Command, clusterShell } from './cluster-shell.ts'
import { type Copying, copying } from './rsync.ts'
import { Slurm } from './slurm.ts'

const nodeSeconds = 120

/** Tests everything that runs on a cluster need, and reports what works. Leaves only the file with a node's answer behind. */
export async function checkCluster(profile: ClusterProfile, program: Command, signal?: AbortSignal): Promise<ClusterFinding[]> {
  const shell = clusterShell(profile.host, signal)
  const findings: ClusterFinding[] = []
  const find = async (what: string, look: () => Promise<string>): Promise<boolean> => {
    const finding = await look().then(
      (found) => ({ what, works: true, found }),
      (thrown: unknown) => ({ what, works: false, found: toErrorMessage(thrown).message }),
    )
    findings.push(finding)
    return finding.works
  }
  if (profile.host !== '' && !(await find(`ssh ${profile.host}`, () => first(shell, ['uname', '-sr'])))) return findings
  let commands = true
  for (const name of ['sbatch', 'squeue', 'scontrol', 'scancel'])
    commands = (await find(name, () => first(shell, [name, '--version']))) && commands
  const accounts = await shell.run(['sacct', '--noheader', '--parsable2', '--format=JobID'])
  findings.push({
    what: 'sacct',
    works: accounts.code === 0 ? true : null,
    found: accounts.code === 0 ? 'accounting is on' : 'accounting is off: how jobs ended is read from scontrol and from their own files',
  })
  await find('partitions', () => partitions(shell, profile.partition))
  if (profile.copies) await find('rsync', () => tryRsync(shell, profile, signal))
  const writes = await find('shared folder', () => tryFolder(shell, profile, signal))
  if (writes && commands) await find('a node', () => askNode(shell, profile, program, signal))
  else findings.push({ what: 'a node', works: null, found: 'not checked because an earlier check failed' })
  return findings
}

async function first(shell: ClusterShell, command: Command): Promise<string> {
  const { code, output, errors } = await shell.run(command)
  if (code !== 0) throw new Error(errors.trim() || `ended with code ${code}`)
  return output.trim().split('\n')[0] ?? ''
}

async function partitions(shell: ClusterShell, wanted: string): Promise<string> {
  const { code, output, errors } = await shell.run(['sinfo', '--noheader', '--format=%P %a %l %D'])
  if (code !== 0) throw new Error(errors.trim())
  const lines = output.trim().split('\n').filter(Boolean)
  const names = lines.map((line) => line.split(' ')[0]?.replace(/\*$/, ''))
  if (wanted !== '' && !wanted.split(',').every((one) => names.includes(one)))
    throw new Error(`There is no partition ${wanted}. The cluster has: ${names.join(', ')}.`)
  return lines.map((line) => line.replace(/^(\S+) (\S+) (\S+) (\S+)$/, '$1 ($2, $4 nodes, up to $3)')).join(', ')
}

/** Returns the versions of rsync on both ends. Throws if one end lacks it. */
async function tryRsync(shell: ClusterShell, { host }: ClusterProfile, signal?: AbortSignal): Promise<string> {
  const [local, remote] = [await first(clusterShell('', signal), ['rsync', '--version']), await first(shell, ['rsync', '--version'])]
  return `${versionIn(local)} on this machine, ${versionIn(remote)} on ${host}`
}

const versionIn = (text: string): string => /version (\S+)/.exec(text)?.[1] ?? text

/** Checks that the cluster can read what this machine writes, directly or after copying. With copying, also the way back. */
async function tryFolder(shell: ClusterShell, { folder, host, copies }: ClusterProfile, signal?: AbortSignal): Promise<string> {
  await first(shell, ['mkdir', '-p', `${folder}/probes`])
  const word = newId('sent')
  const name = `probes/${word}.txt`
  if (copies) await copyAndBack(copying(host, signal ?? new AbortController().signal), folder, name, word)
  else {
    if (host !== '') requireHere(folder, host)
    writeFileSync(join(folder, name), word)
  }
  const read = await shell.run(['cat', `${folder}/${name}`])
  await shell.run(['rm', '-f', '--', `${folder}/${name}`])
  if (read.output !== word)
    throw new Error(`A file that this machine wrote to ${folder} cannot be read ${host === '' ? 'back' : `on ${host}`}.`)
  const { output } = await shell.run(['df', '-Pk', folder])
  const free = Number(output.trim().split('\n').at(-1)?.split(/\s+/)[3])
  return free > 0 ? `writable, ${(free / 1e6).toFixed(1)} GB free` : 'writable'
}

async function copyAndBack(copy: Copying, folder: string, name: string, word: string): Promise<void> {
  const [from, to] = [mkdtempSync(join(tmpdir(), 'espalier-probe-')), mkdtempSync(join(tmpdir(), 'espalier-probe-'))]
  try {
    mkdirSync(join(from, 'probes'))
    writeFileSync(join(from, name), word)
    await copy.listedThere([name], from, folder)
    await copy.listedHere([name], folder, to)
    if (readFileSync(join(to, name), 'utf8') !== word) throw new Error('A file changed when it was copied to the cluster and back.')
  } finally {
    for (const one of [from, to]) rmSync(one, { recursive: true, force: true })
  }
}

/** Submits a job that reports what a node computes with, and waits for its answer. */
async function askNode(shell: ClusterShell, profile: ClusterProfile, program: Command, signal?: AbortSignal): Promise<string> {
  const submission = newId('sent')
  const answer = `${profile.folder}/probes/${submission}.txt`
  const scheduler = new Slurm(shell)
  const job = await scheduler.submit(probeScript(profile, { submission, program }, answer))
  const until = performance.now() + nodeSeconds * 1000
  for (let reason = 'no reason given'; ; ) {
    await sleep(1000, undefined, { signal })
    const task = (await scheduler.tasks()).find(({ name }) => name === jobName(submission))
    if (!task) return readAnswer(shell, answer)
    reason = task.reason ?? task.state
    if (performance.now() < until) continue
    await scheduler.cancel([String(job)])
    throw new Error(`No node started the job within ${nodeSeconds} s: ${reason}. The cluster may just be busy.`)
  }
}

async function readAnswer(shell: ClusterShell, file: string): Promise<string> {
  // A file on a shared disk can appear with a delay.
  for (let tries = 0; ; tries++) {
    const { code, output } = await shell.run(['cat', file])
    if (code === 0 && / on /.test(output)) return output.trim().split('\n').at(-1) ?? ''
    if (tries >= 5)
      throw new Error(code === 0 ? output.trim().slice(-500) || 'The job ended without output.' : `The node did not write ${file}.`)
    await sleep(500)
  }
}
