/**
 * A server that is used for a long time: runs, talks, API clients that come and go, saved models and deletions in random order. At the end its
 * memory must be flat, no handle and no process left, and the history whole: npm run bench -- soak [--minutes 60] [--seed 1]
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { connectWorkbench } from '#server/client.ts'
import { processesOf, seeded } from '../jobs/kill-checks.ts'
import { end, startServer } from '../kills/servers.ts'
import { requireWhole } from '../kills/subject.ts'

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '60' }, seed: { type: 'string', default: '1' } } })
const minutes = Number(values.minutes)
const random = seeded(Number(values.seed))
/** The part of the time that is not judged, ten minutes of an hour: caches fill and the heap finds its size. */
const warmUp = Math.min(10, minutes / 6)
const allowedGrowth = 0.1
/** Calls that may miss their time limit beside other work of the machine. More of them mean that the server hangs. */
const allowedLate = 0.01
const sampleModel = join(import.meta.dirname, '..', '..', 'resources', 'sample-model')

const folder = mkdtempSync(join(tmpdir(), 'espalier-soak-'))
const counts = new Map<string, number>()
const refused = new Map<string, number>()
const samples: { minute: number; megabytes: number; handles: number; processes: number }[] = []

const server = await startServer(folder)
const { address } = server
const { call } = server.remote
const pid = server.child.pid as number
const begun = performance.now()
const minute = () => (performance.now() - begun) / 60_000

const chosen = <Value>(all: readonly Value[]): Value | undefined => all[Math.floor(random() * all.length)]
const modelId = async () => {
  const found = (await call('models.list', {})).find(({ path }) => path === sampleModel)
  if (!found) throw new Error(`The sample model is not in the library: the server could not add it. It printed: ${server.output()}`)
  return found.id
}
const doneRuns = async () => (await call('runs.query', { limit: 1000 })).rows.filter(({ status }) => status === 'done')

const actions: Record<string, () => Promise<unknown>> = {
  async run() {
    if ((await call('queue.get', {})).waiting > 3) return
    const method = chosen(['shortgpt', '2ssp', 'window_based']) as string
    const windows = { source: 'sample', sequenceLength: 128, windows: 2 }
    await call('runs.create', {
      model: await modelId(),
      request: {
        method,
        amount: { sparsity: 0.25 },
        options: method === '2ssp' ? { windows: 2 } : {},
        seed: Math.floor(random() * 1e6),
        calibration: { ...windows, source: join(sampleModel, 'calibration.txt') },
        measures: [{ kind: 'perplexity', name: 'test', data: { ...windows, source: join(sampleModel, 'test.txt') } }],
        backend: 'auto',
      },
    })
  },
  async cancel() {
    const [waiting] = (await call('queue.get', {})).runs.filter(({ status }) => status === 'queued')
    if (waiting) await call('runs.cancel', { ids: [waiting.id] })
  },
  async talk() {
    const run = chosen(await doneRuns())
    const columns = [{ model: await modelId() }, ...(run ? [{ run: run.id }] : [])]
    const { id } = await call('playground.start', { columns, prompts: [{ text: 'The river' }], settings: { maxTokens: 24 } })
    if (random() < 0.3) await call('playground.stop', { id })
    while ((await call('transcripts.get', { id })).status === 'running') await pause(100)
  },
  /** A client of the OpenAI-compatible door, which often leaves before the answer has ended. */
  async client() {
    const leaving = AbortSignal.timeout(Math.round(50 + random() * 2000))
    const body = { model: await modelId(), prompt: 'The river', max_tokens: 24, stream: random() < 0.5 }
    const response = await fetch(`${address.address}v1/completions`, {
      method: 'POST',
      signal: leaving,
      headers: { authorization: `Bearer ${address.token}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    const text = await response.text()
    if (!response.ok && response.status !== 429) throw new Error(`The client got ${response.status}: ${text.slice(0, 300)}`)
  },
  /** A page that opens, looks and closes. */
  async page() {
    const other = await connectWorkbench(address)
    other.subscribe(() => {})
    await other.call('runs.query', {})
    await other.call('queue.get', {})
    await other.call('history.get', {})
    await other.close()
  },
  async save() {
    const run = chosen(await doneRuns())
    if (!run) return
    const transfer = await call('runs.save', { id: run.id, name: `saved ${Math.floor(random() * 1e9)}`, formats: ['stock'], replace: true })
    for (;;) {
      const now = (await call('transfers.list', {})).find(({ id }) => id === transfer.id)
      if (now?.status === 'failed') throw new Error(`A save failed: ${now.problem}`)
      if (now?.status !== 'running') break
      await pause(100)
    }
  },
  async 'remove models'() {
    const saved = (await call('models.list', {})).filter(({ origin }) => origin === 'exported')
    for (const { id } of saved.slice(0, -2)) await call('models.remove', { id, files: true })
  },
  async 'remove runs'() {
    const old = (await doneRuns()).slice(10).map(({ id }) => id)
    if (old.length === 0) return
    await call('runs.archive', { ids: old })
    await call('runs.remove', { ids: old })
  },
  async 'remove talks'() {
    const { rows } = await call('transcripts.query', { limit: 500 })
    const old = rows.filter(({ status }) => status !== 'running').slice(10)
    if (old.length > 0) await call('transcripts.remove', { ids: old.map(({ id }) => id) })
  },
}

/** Errors that a user would expect: the thing was deleted, is in use or has ended meanwhile, or the client left. */
const expected = new Set(['not-found', 'conflict', 'cancelled'])

async function use(): Promise<void> {
  while (minute() < minutes) {
    const name = chosen(Object.keys(actions)) as string
    try {
      await actions[name]?.()
      counts.set(name, (counts.get(name) ?? 0) + 1)
    } catch (thrown) {
      const { code, message } = toErrorMessage(thrown)
      const left = thrown instanceof Error && (thrown.name === 'TimeoutError' || thrown.name === 'AbortError')
      // So ends a call that took too long, or was sent too slowly, beside other work of this machine.
      const busy = /The machine is busy|answered 408/.test(message)
      if (!left && !busy && !expected.has(code)) throw new EspalierError(code, `${name}: ${message}`)
      const refusal = busy ? 'too late' : name
      refused.set(refusal, (refused.get(refusal) ?? 0) + 1)
    }
    await pause(random() * 300)
  }
}

function sample(): void {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const megabytes = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024
  const handles = readdirSync(`/proc/${pid}/fd`).length
  samples.push({ minute: minute(), megabytes, handles, processes: processesOf(pid, '').length })
}

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN

/** Medians of a sixth of the time, from this minute on. */
function mediansFrom(from: number) {
  const some = samples.filter((one) => one.minute >= from && one.minute < from + minutes / 6)
  return { megabytes: median(some.map((one) => one.megabytes)), handles: median(some.map((one) => one.handles)) }
}

const failures: string[] = []
const timer = setInterval(sample, 2000)
try {
  await Promise.all([use(), use(), use()])
} catch (thrown) {
  failures.push(toErrorMessage(thrown).message)
}
clearInterval(timer)

const [first, last] = [mediansFrom(warmUp), mediansFrom(minutes - minutes / 6)]
const growth = last.megabytes / first.megabytes - 1
console.log(`${[...counts].map(([name, count]) => `${count} × ${name}`).join(', ')} in ${minute().toFixed(1)} minutes, seed ${values.seed}`)
console.log(`refused or left: ${[...refused].map(([name, count]) => `${count} × ${name}`).join(', ') || 'none'}`)
console.log(
  `memory of the server: ${first.megabytes.toFixed(0)} MB after the warm-up, ${last.megabytes.toFixed(0)} MB at the end (${(100 * growth).toFixed(1)} %)`,
)
console.log(`open handles: ${first.handles} after the warm-up, ${last.handles} at the end`)
if (growth > allowedGrowth) failures.push(`The memory grew by more than ${100 * allowedGrowth} %.`)
if (last.handles > first.handles + 5) failures.push('Handles were left open.')

const late = refused.get('too late') ?? 0
const all = [...counts.values()].reduce((sum, count) => sum + count, late)
if (late > allowedLate * all) failures.push(`${late} of ${all} calls took longer than their time limit.`)

const { unknown } = await call('history.get', { check: true })
const children = processesOf(pid, '')
await end(server, 'SIGTERM')
await pause(1000)
const left = children.filter((child) => readdirSync('/proc').includes(String(child)))
if (left.length > 0) failures.push(`${left.length} processes were left.`)
if (unknown.files > 0) failures.push(`${unknown.files} stored values belong to no run.`)
requireWhole(folder)
console.log(`processes left: ${left.length}; stored values that belong to no run: ${unknown.files}; the history is whole`)
for (const failure of failures) console.error(failure)
process.exitCode = failures.length > 0 ? 1 : 0
rmSync(folder, { recursive: true, force: true })
