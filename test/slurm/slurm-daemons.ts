import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from '../eventually.ts'

/** A separate Slurm on this machine: a controller and two nodes, n1 and n2, with one processor each. */
export interface SlurmDaemons {
  folder: string
  /** For the files of runs. */
  shared: string
  /** The environment that a command needs to use this Slurm. */
  environment: { SLURM_CONF: string }
  /** Runs a client command and returns its output. */
  ask(...command: [string, ...string[]]): string
  /**
   * Stops it as an administrator would: a killed controller forgets its last seconds, and later drains nodes that run jobs it does not
   * know.
   */
  stopController(): Promise<void>
  startController(): Promise<void>
  /** Ends all jobs and daemons. */
  stop(): Promise<void>
}

/** Whether a real Slurm was requested and can be started here: as root on Linux, with its programs installed. */
export function hasSlurm(): boolean {
  return (
    process.env.ESPALIER_TEST_SLURM !== undefined &&
    process.platform === 'linux' &&
    process.getuid?.() === 0 &&
    ['/usr/sbin/slurmctld', '/usr/sbin/slurmd', '/usr/sbin/munged'].every(existsSync)
  )
}

export async function startSlurm(): Promise<SlurmDaemons> {
  const folder = mkdtempSync(join(tmpdir(), 'espalier-slurm-'))
  const conf = join(folder, 'slurm.conf')
  for (const name of ['shared', 'state', 'spool-n1', 'spool-n2', 'log']) mkdirSync(join(folder, name))
  writeFileSync(join(folder, 'cgroup.conf'), 'CgroupPlugin=disabled\n')
  // Below the ports that the system assigns to connections.
  writeFileSync(conf, configuration(folder, 12_000 + Math.floor(Math.random() * 20_000)))
  const environment = { SLURM_CONF: conf }
  const ask = (program: string, ...words: string[]) =>
    execFileSync(program, words, { env: { ...process.env, ...environment }, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  const munge = await startMunge()
  const nodes: ChildProcess[] = []
  let controller: ChildProcess
  const start = (program: string, ...words: string[]) =>
    spawn(program, ['-D', ...words, '-f', conf], { env: { ...process.env, ...environment }, stdio: 'ignore' })
  const startController = async () => {
    controller = start('/usr/sbin/slurmctld')
    await eventually(() => answers(() => ask('scontrol', 'ping')), 'the controller', 30_000)
  }
  await startController()
  for (const node of ['n1', 'n2']) nodes.push(start('/usr/sbin/slurmd', '-N', node))
  await eventually(() => answers(() => ask('sinfo', '--noheader', '--format=%t')) === 'idle', 'two idle nodes', 30_000)
  return {
    folder,
    shared: join(folder, 'shared'),
    environment,
    ask: (...command) => ask(...command),
    stopController: () => ended(controller),
    startController,
    async stop() {
      try {
        ask('scancel', '--user=root', '--signal=KILL', '--full')
      } catch {}
      await Promise.all([controller, ...nodes, ...(munge ? [munge] : [])].map(ended))
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Asks a daemon to end, and kills it if it does not. */
async function ended(daemon: ChildProcess): Promise<void> {
  if ((daemon.exitCode ?? daemon.signalCode) !== null) return
  const over = new Promise((resolve) => daemon.once('exit', resolve))
  daemon.kill('SIGTERM')
  const late = setTimeout(() => daemon.kill('SIGKILL'), 20_000)
  await over
  clearTimeout(late)
}

function answers(ask: () => string): string | undefined {
  try {
    return ask().trim()
  } catch {
    return undefined
  }
}

/** Starts munge's daemon unless it is already running. */
async function startMunge(): Promise<ChildProcess | undefined> {
  if (answers(() => execFileSync('munge', ['-n'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))) return undefined
  mkdirSync('/run/munge', { recursive: true })
  execFileSync('chown', ['munge', '/run/munge'])
  const daemon = spawn('runuser', ['-u', 'munge', '--', '/usr/sbin/munged', '--foreground', '--force'], { stdio: 'ignore' })
  await eventually(
    () => answers(() => execFileSync('munge', ['-n'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })),
    'munge',
    20_000,
  )
  return daemon
}

function configuration(folder: string, port: number): string {
  const host = hostname().split('.')[0]
  const node = (name: string, at: number) =>
    `NodeName=${name} NodeHostname=${host} NodeAddr=127.0.0.1 Port=${port + at} CPUs=1 RealMemory=2000 State=UNKNOWN`
  return `ClusterName=test
SlurmctldHost=${host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=${folder}/state
SlurmctldPidFile=${folder}/ctld.pid
SlurmdPidFile=${folder}/d-%n.pid
SlurmdSpoolDir=${folder}/spool-%n
SlurmctldLogFile=${folder}/log/ctld.log
SlurmdLogFile=${folder}/log/d-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmctldPort=${port}
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
MessageTimeout=5
KillWait=5
AuthInfo=cred_expire=5
${node('n1', 1)}
${node('n2', 2)}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
`
}
