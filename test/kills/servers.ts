import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseAddress, type ServerAddress } from '#server/address.ts'
import { connectWorkbench, type RemoteWorkbench } from '#server/client.ts'
import { forgetSteps, processesOf } from '../jobs/kill-checks.ts'
import { calibration, type Killed, type Killing, requireSame, requireWhole, type Subject, statuses } from './subject.ts'

const program = join(import.meta.dirname, '..', '..', 'src-main', 'server', 'main.ts')

export interface Server {
  child: ChildProcess
  remote: RemoteWorkbench
  address: ServerAddress
  /** What it has printed so far. */
  output: () => string
}

export async function startServer(folder: string): Promise<Server> {
  const child = spawn(process.execPath, [program, '--data', folder], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const printed = await new Promise<string>((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk
      const found = /http:\S+#token=\S+/.exec(output)?.[0]
      if (found && output.includes('\n', output.indexOf(found))) resolve(found)
    }
    child.stdout.on('data', read)
    child.stderr.on('data', read)
    child.once('exit', (code) => reject(new Error(`The server ended with code ${code}: ${output}`)))
  })
  child.removeAllListeners('exit')
  const address = parseAddress(printed)
  return { child, address, output: () => output, remote: await connectWorkbench(address) }
}

export async function end({ child, remote }: Pick<Server, 'child' | 'remote'>, signal: NodeJS.Signals): Promise<void> {
  await remote.close()
  const ended = new Promise((resolve) => child.once('exit', resolve))
  if (child.exitCode === null && child.signalCode === null && child.kill(signal)) await ended
}

/** Makes sure that a run is active: a new one, or the interrupted one. */
export async function keepBusy({ call }: RemoteWorkbench, { model, method, folder }: Subject): Promise<void> {
  const { rows } = await call('runs.query', {})
  if (rows.some(({ status }) => status === 'running' || status === 'queued')) return
  if ((await call('queue.get', {})).devices.some(({ status }) => status === 'broken')) await call('queue.resume', {})
  const interrupted = rows.filter(({ status }) => status === 'interrupted').map(({ id }) => id)
  if (interrupted.length > 0) return void (await call('runs.resume', { ids: interrupted }))
  const failed = rows.find(({ status }) => status === 'failed')
  if (failed) throw new Error(`A run failed: ${JSON.stringify(failed)}`)
  const models = await call('models.list', {})
  const known = models.find(({ path }) => path === model) ?? (await call('models.add', { path: model }))
  forgetSteps(folder)
  const request = {
    method,
    amount: { sparsity: 0.5 },
    options: {},
    seed: 0,
    calibration,
    measures: [],
    backend: 'auto' as const,
  }
  await call('runs.create', { model: known.id, request })
}

/** Waits for every run to end and compares its plan. */
async function finish({ call }: RemoteWorkbench, killing: Killing): Promise<number> {
  for (;;) {
    const { rows } = await call('runs.query', { limit: 1000 })
    if (rows.length > 0 && rows.every(({ status }) => status === 'done')) {
      for (const { id } of rows) requireSame((await call('runs.get', { id })).plan, killing.outcome.plan)
      return rows.length
    }
    if (!rows.some(({ status }) => status === 'running' || status === 'queued')) await keepBusy({ call } as RemoteWorkbench, killing)
    await pause(200)
  }
}

export async function killServers(killing: Killing): Promise<Killed> {
  const { seconds, random, count, folder } = killing
  const killed = { kills: 0, interrupted: 0, done: 0 }
  for (; killed.kills < count; killed.kills++) {
    const server = await startServer(folder)
    // Some are killed before they have anything to do.
    if (random() < 0.9) await keepBusy(server.remote, killing)
    await pause(random() * seconds * 800)
    await end(server, 'SIGKILL')
    if (statuses(folder).includes('running')) killed.interrupted++
    requireWhole(folder)
  }
  return { ...killed, done: await finishAlone(killing) }
}

export async function killComputes(killing: Killing): Promise<Killed> {
  const { seconds, random, count, folder } = killing
  const killed = { kills: 0, interrupted: 0, done: 0 }
  const server = await startServer(folder)
  await server.remote.call('settings.update', { resumeRuns: false })
  while (killed.kills < count) {
    await keepBusy(server.remote, killing)
    await pause(random() * seconds * 800)
    const processes = processesOf(server.child.pid ?? -1, join('compute', 'main.ts'))
    for (const pid of processes) process.kill(pid, 'SIGKILL')
    if (processes.length === 0) continue
    killed.kills++
    await pause(100)
    if (statuses(folder).includes('interrupted')) killed.interrupted++
    requireWhole(folder)
  }
  await end(server, 'SIGTERM')
  return { ...killed, done: await finishAlone(killing) }
}

export async function finishAlone(killing: Killing): Promise<number> {
  const server = await startServer(killing.folder)
  const done = await finish(server.remote, killing)
  await end(server, 'SIGTERM')
  requireWhole(killing.folder)
  return done
}
