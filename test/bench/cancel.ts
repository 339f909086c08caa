/**
 * Seconds from a cancel to the moment at which it is shown, in every phase of long work: `npm run bench -- cancel MODEL [NAME ...]`.
 *
 * A run is cancelled once in each of its phases, `--times` times. The process of work that does not end by itself is killed, which the table
 * says. Finished steps are kept, so a later run begins where the one before was cancelled.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { Input } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import type { GridInput } from '#contract/experiments/experiments.ts'
import { processesOf, seeded } from '../jobs/kill-checks.ts'
import { end, startServer } from '../kills/servers.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { times: { type: 'string', default: '1' }, seed: { type: 'string', default: '1' }, longest: { type: 'string', default: '60' } },
})
const [modelPath = join(import.meta.dirname, '../../resources/sample-model'), ...names] = positionals
const random = seeded(Number(values.seed))
/** A phase is cancelled up to this many seconds after it began. */
const latest = 3
const longestMilliseconds = 1000 * Number(values.longest)

type Request = Input<'runs.create'>['request']

const text = { source: 'mixed', sequenceLength: 512, windows: 16 }
const base: Request = {
  method: 'shortgpt',
  amount: { sparsity: 0.25 },
  options: {},
  seed: 0,
  calibration: text,
  measures: [],
  backend: 'auto',
  precision: 'mixed',
}
const perplexity = { kind: 'perplexity' as const, name: 'prose', data: { source: 'prose', sequenceLength: 512, windows: 32 } }

const runs: Record<string, Request> = {
  vocabulary: { ...base, method: 'vocabulary', options: { share: 0.3 }, calibration: { source: 'mixed', sequenceLength: 512 } },
  gates: { ...base, method: 'gates', options: { windows: 4, steps: 8 } },
  '2ssp': { ...base, method: '2ssp', options: { windows: 8 } },
  'repair one-pass': { ...base, repair: { kind: 'one-pass', calibration: text } },
  'repair in-order': { ...base, repair: { kind: 'in-order', calibration: text } },
  recovery: { ...base, recover: { amount: { tokens: 16_384 }, text: { source: 'mixed', sequenceLength: 512 } } },
  perplexity: { ...base, measures: [perplexity] },
  'perplexity float32': { ...base, precision: 'float32', measures: [perplexity] },
  Q4_K_M: { ...base, weights: 'Q4_K_M', measures: [perplexity] },
  IQ2_M: { ...base, weights: 'IQ2_M', measures: [perplexity] },
}

const folder = mkdtempSync(join(tmpdir(), 'espalier-cancel-'))
const server = await startServer(folder)
const { call } = server.remote
const children = () => processesOf(server.child.pid as number, 'compute/main.ts')
const rows: { what: string; phase: string; shown: number; free: number; was: string }[] = []
/** Phases that all runs begin with are cancelled in the first of them. */
const opening = new Set(['starting', 'Reading the model', 'Reading the text'])
const cancelledPhases = new Map<string, number>()

try {
  const added = await call('models.add', { path: resolve(modelPath) })
  for (const [name, request] of Object.entries(runs)) if (isAsked(name)) await cancelRuns(name, { model: added.id, request })
  if (isAsked('what broke')) await cancelComparisons(added.id)
  if (isAsked('playground')) await cancelAnswers(added.id)
  if (isAsked('save')) await cancelSaves(added.id)
  if (isAsked('preview')) await cancelPreviews(added.id)
} finally {
  await end(server, 'SIGTERM')
  rmSync(folder, { recursive: true, force: true })
}
console.log('\n| what | phase | shown [s] | free [s] | ended |\n| --- | --- | --- | --- | --- |')
for (const { what, phase, shown, free, was } of rows)
  console.log(`| ${what} | ${phase} | ${shown.toFixed(2)} | ${free.toFixed(2)} | ${was} |`)
console.log(`\nThe longest: ${Math.max(0, ...rows.map(({ free }) => free)).toFixed(2)} s`)

function isAsked(name: string): boolean {
  return names.length === 0 || names.some((asked) => name.includes(asked))
}

/** Times an ending. `cancel` asks for it, `isOver` says whether it is shown, and then its process is free for other work. */
async function time(what: string, phase: string, cancel: () => Promise<unknown>, isOver: () => Promise<boolean>): Promise<void> {
  const before = children()
  const begun = performance.now()
  const until = async (isTrue: () => Promise<boolean>): Promise<number> => {
    while (!(await isTrue())) {
      if (performance.now() - begun > longestMilliseconds) throw new EspalierError('internal', `${what}, ${phase}: still not cancelled.`)
      await pause(20)
    }
    return (performance.now() - begun) / 1000
  }
  await cancel()
  const shown = await until(isOver)
  const free = await until(async () => (await call('queue.get', {})).devices.every(({ status }) => status !== 'busy'))
  const was = before.every((pid) => children().includes(pid)) ? 'by itself' : 'killed'
  rows.push({ what, phase, shown, free, was })
  console.error(
    `${new Date().toTimeString().slice(0, 8)} ${what}, ${phase}: shown ${shown.toFixed(2)} s, free ${free.toFixed(2)} s, ${was}`,
  )
}

async function cancelRuns(what: string, { model, request }: { model: string; request: Request }): Promise<void> {
  await cancelPhases(what, async () => (await call('runs.create', { model, request, name: what })).id)
}

/** Starts runs, and cancels each in a phase that was not cancelled before, until one ends. */
async function cancelPhases(what: string, create: () => Promise<string>): Promise<string> {
  const keyOf = (phase: string) => (opening.has(phase) ? phase : `${what}, ${phase}`)
  const countOf = (phase: string) => cancelledPhases.get(keyOf(phase)) ?? 0
  for (;;) {
    const id = await create()
    let begun = { phase: '', at: performance.now() }
    const wait = 1000 * random() * latest
    for (;;) {
      const { status, progress, problem } = await call('runs.get', { id })
      if (status === 'failed') throw new EspalierError('internal', `${what}: ${problem?.message}`)
      if (status === 'done') return id
      const phase = status === 'queued' ? 'queued' : (progress?.phase ?? 'starting')
      if (begun.phase !== phase) begun = { phase, at: performance.now() }
      const isNew = phase !== 'queued' && countOf(phase) < Number(values.times)
      if (isNew && performance.now() - begun.at > wait) break
      // A phase that is over sooner is caught at its beginning.
      if (isNew && progress && wait > 500 && progress.done / progress.total > 0.6) break
      await pause(30)
    }
    const { phase } = begun
    cancelledPhases.set(keyOf(phase), countOf(phase) + 1)
    await time(
      what,
      phase,
      () => call('runs.cancel', { ids: [id] }),
      async () => !['running', 'queued'].includes((await call('runs.get', { id })).status),
    )
  }
}

async function pruned(model: string): Promise<string> {
  const { id } = await call('runs.create', { model, request: base, name: 'pruned' })
  while ((await call('runs.get', { id })).status !== 'done') await pause(100)
  return id
}

async function cancelComparisons(model: string): Promise<void> {
  const run = await pruned(model)
  const data = { source: 'prose', sequenceLength: 512, windows: 16 }
  await cancelPhases(
    'what broke',
    async () => (await call('runs.inspect', { inspect: { kind: 'divergence', runs: [run], data }, name: 'what broke' })).id,
  )
}

async function cancelAnswers(model: string): Promise<void> {
  const run = await pruned(model)
  const decodings = [
    { kind: 'sampling' as const, temperature: 0.8 },
    { kind: 'beam' as const, beams: 5 },
  ]
  const prompts = [{ text: 'The river' }, { text: 'The river runs through the valley. '.repeat(150) }]
  for (const decoding of decodings)
    for (const prompt of prompts)
      for (const wait of [100, 1000, 4000, 9000]) {
        const { id } = await call('playground.start', {
          columns: [{ model }, { run }],
          prompts: [prompt],
          settings: { maxTokens: 400, decoding },
        })
        await pause(wait)
        if ((await call('transcripts.get', { id })).status !== 'running') continue
        await time(
          `playground, ${decoding.kind}`,
          `${prompt.text.length} characters, after ${wait / 1000} s`,
          () => call('playground.stop', { id }),
          async () => (await call('transcripts.get', { id })).status !== 'running',
        )
      }
}

async function cancelSaves(model: string): Promise<void> {
  const run = await pruned(model)
  const transfer = async (id: string) => (await call('transfers.list', {})).find((one) => one.id === id)
  for (const type of ['F16', 'Q4_K_M', 'IQ2_M'])
    for (const wait of [200, 1500, 5000, 12_000, 25_000]) {
      const { id } = await call('runs.save', { id: run, name: `saved ${type} ${wait}`, formats: ['gguf'], ggufTypes: [type] })
      await pause(wait)
      const now = await transfer(id)
      if (now?.status !== 'running') break
      await time(
        `save ${type}`,
        now.opened ? 'opening again' : `after ${wait / 1000} s`,
        () => call('transfers.cancel', { id }),
        async () => (await transfer(id))?.status !== 'running',
      )
    }
}

/** A preview is over when the next one is answered, because one process computes them in turn. */
async function cancelPreviews(model: string): Promise<void> {
  const grid: GridInput = {
    models: [model],
    methods: ['2ssp', 'gates', 'vocabulary', 'evopress'].map((method) => ({ method })),
    amounts: [0.1, 0.2, 0.3, 0.4, 0.5].map((sparsity) => ({ sparsity })),
    repairs: ['none', 'in-order'],
    weights: ['computed', 'Q4_K_M', 'IQ2_M'],
    calibration: text,
    measures: [perplexity],
  }
  const { address } = server
  const ask = (name: 'experiments.preview' | 'experiments.sizes', input: unknown, signal: AbortSignal) =>
    fetch(`${address.address}api/${name}`, {
      method: 'POST',
      signal,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${address.token}`, connection: 'close' },
      body: JSON.stringify(input),
    })
  for (const [name, input] of [
    ['experiments.preview', { grid }],
    ['experiments.sizes', { model }],
  ] as const) {
    const begun = performance.now()
    const answer = await ask(name, input, AbortSignal.timeout(120_000))
    const said = await answer.text()
    console.error(`${name}: ${((performance.now() - begun) / 1000).toFixed(2)} s in all`, answer.ok ? '' : said.slice(0, 300))
    for (const wait of [50, 300, 1000, 3000]) {
      const leaving = new AbortController()
      const left = ask(name, input, leaving.signal).then(
        () => true,
        () => false,
      )
      await pause(wait)
      let over = false
      await time(
        name,
        `after ${wait / 1000} s`,
        async () => {
          leaving.abort()
          over = await left
          if (over) return
          void call('models.check', { path: resolve(modelPath) }).then(() => {
            over = true
          })
        },
        async () => over,
      )
    }
  }
}
