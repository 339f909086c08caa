import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ClusterFinding, ClusterProfile } from '#contract/clusters/clusters.ts'
import { toErrorMessage } from '#contract/errors.ts'
import { newId } from '#db/ids.ts'
import { jobName, probeScript } from './batch-script.ts'
import { requireHere } from './cluster-files.ts'
import { type ClusterShell, type Command, clusterShell, type ShellAnswer } from './cluster-shell.ts'
import { type Copying, copying } from './rsync.ts'
import { Slurm } from './slurm.ts'

const nodeSeconds = 120

/**
 * Checks what Espalier needs to compute runs on a cluster, and reports for each thing whether it works. Leaves a folder `probes` in the
 * shared folder, which holds the node's answer.
 */
export async function checkCluster(profile: ClusterProfile, program: Command, signal?: AbortSignal): Promise<ClusterFinding[]> {
  const shell = clusterShell(profile.host, signal)
  const findings: ClusterFinding[] = []
  const check = async (what: string, test: () => Promise<string>): Promise<boolean> => {
    const finding = await test().then(
      (found) => ({ what, works: true, found }),
      (thrown: unknown) => ({ what, works: false, found: toErrorMessage(thrown).message }),
    )
    findings.push(finding)
    return finding.works
  }
  if (profile.host !== '' && !(await check(`ssh ${profile.host}`, () => firstLineOf(shell, ['uname', '-sr'])))) return findings
  let commandsWork = true
  for (const name of ['sbatch', 'squeue', 'scontrol', 'scancel'])
    commandsWork = (await check(name, () => firstLineOf(shell, [name, '--version']))) && commandsWork
  const accounts = await shell.run(['sacct', '--noheader', '--parsable2', '--format=JobID'])
  findings.push({
    what: 'sacct',
    works: accounts.code === 0 ? true : null,
    found: accounts.code === 0 ? 'accounting is on' : describeMissingAccounting(accounts),
  })
  await check('partitions', () => describePartitions(shell, profile.partition))
  if (profile.copies) await check('rsync', () => tryRsync(shell, profile, signal))
  const folderWorks = await check('shared folder', () => tryFolder(shell, profile, signal))
  if (folderWorks && commandsWork) await check('a node', () => askNode(shell, profile, program, signal))
  else findings.push({ what: 'a node', works: null, found: 'not checked because an earlier check failed' })
  return findings
}

/** Says why accounting cannot be read, and what Espalier uses instead. */
function describeMissingAccounting({ errors }: ShellAnswer): string {
  const reason = errors.trim().split('\n')[0]?.replace(/\.$/, '')
  return `not available${reason ? ` (${reason})` : ''}; Espalier learns how jobs ended from scontrol and from the files that they write`
}

/** Returns the first line that a command prints. Throws its error message if it fails. */
async function firstLineOf(shell: ClusterShell, command: Command): Promise<string> {
  const { code, output, errors } = await shell.run(command)
  if (code !== 0) throw new Error(errors.trim() || `ended with code ${code}`)
  return output.trim().split('\n')[0] ?? ''
}

/** Returns the cluster's partitions in words. Throws if one of the wanted ones, which are separated by commas, does not exist. */
async function describePartitions(shell: ClusterShell, wanted: string): Promise<string> {
  const { code, output, errors } = await shell.run(['sinfo', '--noheader', '--format=%P %a %l %D'])
  if (code !== 0) throw new Error(errors.trim())
  const lines = output.trim().split('\n').filter(Boolean)
  const names = lines.map((line) => line.split(' ')[0]?.replace(/\*$/, ''))
  const missing = wanted === '' ? [] : wanted.split(',').filter((name) => !names.includes(name))
  if (missing.length > 0)
    throw new Error(`The cluster has no partition ${missing.join(' and no partition ')}. Its partitions are: ${names.join(', ')}.`)
  return lines.map((line) => line.replace(/^(\S+) (\S+) (\S+) (\S+)$/, '$1 ($2, $4 nodes, up to $3)')).join(', ')
}

/** Returns the versions of rsync on both ends. Throws if one end lacks it. */
async function tryRsync(shell: ClusterShell, { host }: ClusterProfile, signal?: AbortSignal): Promise<string> {
  const [local, remote] = [
    await firstLineOf(clusterShell('', signal), ['rsync', '--version']),
    await firstLineOf(shell, ['rsync', '--version']),
  ]
  return `${versionIn(local)} on this machine, ${versionIn(remote)} on ${host}`
}

const versionIn = (text: string): string => /version (\S+)/.exec(text)?.[1] ?? text

/**
 * Checks that the cluster can read a file that this machine wrote to the shared folder, or copied there. If files are copied, also checks
 * that one can be copied back. Returns the free space.
 */
async function tryFolder(shell: ClusterShell, { folder, host, copies }: ClusterProfile, signal?: AbortSignal): Promise<string> {
  await firstLineOf(shell, ['mkdir', '-p', `${folder}/probes`])
  const text = randomUUID()
  const name = `probes/${text}.txt`
  if (copies) await copyAndBack(copying(host, signal ?? new AbortController().signal), folder, name, text)
  else {
    if (host !== '') requireHere(folder, host)
    writeFileSync(join(folder, name), text)
  }
  const read = await shell.run(['cat', `${folder}/${name}`])
  await shell.run(['rm', '-f', '--', `${folder}/${name}`])
  if (read.output !== text)
    throw new Error(
      `A file that this machine ${copies ? 'copied' : 'wrote'} to ${folder} cannot be read ${host === '' ? 'back' : `on ${host}`}.`,
    )
  const { output } = await shell.run(['df', '-Pk', folder])
  const free = Number(output.trim().split('\n').at(-1)?.split(/\s+/)[3])
  return free > 0 ? `writable, ${(free / 1e6).toFixed(1)} GB free` : 'writable'
}

async function copyAndBack(copy: Copying, folder: string, name: string, text: string): Promise<void> {
  const [from, to] = [mkdtempSync(join(tmpdir(), 'espalier-probe-')), mkdtempSync(join(tmpdir(), 'espalier-probe-'))]
  try {
    mkdirSync(join(from, 'probes'))
    writeFileSync(join(from, name), text)
    await copy.sendListed([name], from, folder)
    await copy.fetchListed([name], folder, to)
    if (readFileSync(join(to, name), 'utf8') !== text) throw new Error('A file changed when it was copied to the cluster and back.')
  } finally {
    for (const temporary of [from, to]) rmSync(temporary, { recursive: true, force: true })
  }
}

/** Submits a job that reports which backend and device its node computes with, and returns its answer. */
async function askNode(shell: ClusterShell, profile: ClusterProfile, program: Command, signal?: AbortSignal): Promise<string> {
  const submission = newId('sent')
  const answer = `${profile.folder}/probes/${submission}.txt`
  const scheduler = new Slurm(shell)
  const job = await scheduler.submit(probeScript(profile, { submission, program }, answer))
  const until = performance.now() + nodeSeconds * 1000
  for (;;) {
    await sleep(1000, undefined, { signal })
    const task = (await scheduler.tasks()).find(({ name }) => name === jobName(submission))
    if (!task) return readAnswer(shell, answer)
    if (performance.now() < until) continue
    await scheduler.cancel([String(job)])
    throw new Error(`The test job did not end within ${nodeSeconds} s (${task.reason ?? task.state}). The cluster may just be busy.`)
  }
}

/** Returns the probe's answer, or throws an error with its output if there is none. */
async function readAnswer(shell: ClusterShell, file: string): Promise<string> {
  // A file on a shared disk can appear with a delay. A probe that works prints the line `NODE computes with BACKEND on DEVICE`.
  for (let tries = 0; ; tries++) {
    const { code, output } = await shell.run(['cat', file])
    const [answer] = /^\S+ computes with .+ on .+$/m.exec(output) ?? []
    if (code === 0 && answer) return answer
    if (tries >= 5)
      throw new Error(code === 0 ? output.trim().slice(-500) || 'The job ended without output.' : `The test job did not write ${file}.`)
    await sleep(500)
  }
}
