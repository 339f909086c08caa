/**
 * Seconds and memory of each step of a run beside its preview: `npm run bench -- steps MODEL FOLDER [--method 2ssp] [--sparsity 0.25]
 * [--windows 32] [--repair in-order] [--recover TOKENS] [--weights Q4_K_M] [--precision mixed] [--memory GB]`.
 *
 * The preview knows this machine's rates and no finished run. The peak is that of the process in each step, in which the run is alone. FOLDER
 * keeps steps, so a killed measurement resumes, and steps found there are not timed. Memory is read from Linux.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { EspalierError } from '#contract/errors.ts'
import type { PrecisionName } from '#contract/pruning/precision.ts'
import type { RepairKind } from '#contract/pruning/repair.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { WeightType } from '#contract/titles.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { measureRates } from '#engine/estimate/machine-rates.ts'
import { checkRequests } from '#engine/tasks/check-request.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { Experience, estimateRun, sumSeconds } from '#services/experiments/estimate-seconds.ts'
import { folderSteps } from './folder-runs/folder-steps.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    method: { type: 'string', default: '2ssp' },
    sparsity: { type: 'string', default: '0.25' },
    windows: { type: 'string', default: '32' },
    repair: { type: 'string' },
    recover: { type: 'string' },
    weights: { type: 'string' },
    precision: { type: 'string', default: 'mixed' },
    memory: { type: 'string' },
  },
})
const [model = '', folder = ''] = positionals

const text = { source: 'mixed', sequenceLength: 512, windows: Number(values.windows) }
const request: RunRequest = {
  model,
  method: values.method,
  amount: { sparsity: Number(values.sparsity) },
  options: {},
  seed: 0,
  backend: 'auto',
  precision: values.precision as PrecisionName,
  calibration: text,
  ...(values.repair ? { repair: { kind: values.repair as RepairKind, calibration: text } } : {}),
  ...(values.recover ? { recover: { amount: { tokens: Number(values.recover) }, text: { source: 'mixed', sequenceLength: 512 } } } : {}),
  ...(values.weights ? { weights: values.weights as WeightType } : {}),
  ...(values.memory ? { memoryBytes: 1e9 * Number(values.memory) } : {}),
  measures: [{ kind: 'perplexity', name: 'prose', data: { source: 'prose', sequenceLength: 512, windows: 8 } }],
}

await openBackend('auto')
const rates = await measureRates()
const [preview] = await checkRequests([request])
if (!preview?.work) throw new EspalierError('usage', preview?.problems.map(({ message }) => message).join(' ') || 'No preview.')
const estimated = Map.groupBy(estimateRun(request.method, preview.work, rates, new Experience([], rates)).phases, ({ part }) => part)

/** The largest memory of this process since the last call, in bytes. */
function peak(): number {
  const kilobytes = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])
  writeFileSync('/proc/self/clear_refs', '5')
  return 1024 * kilobytes
}

const peaks = new Map<string, number>()
let phase = 'Before'
const keepPeak = () => peaks.set(phase, Math.max(peaks.get(phase) ?? 0, peak()))
console.log(`at rest ${gigabytes(peak())}, preview ${gigabytes(preview.memoryBytes ?? 0)}`)
const begun = performance.now()
const { seconds, measures } = await executeRun(request, {
  steps: folderSteps(folder),
  signal: new AbortController().signal,
  emit(event) {
    if (event.type !== 'progress' || event.progress.phase === phase) return
    keepPeak()
    phase = event.progress.phase
    process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${phase}\n`)
  },
})
keepPeak()

console.log('\n| step | estimated [s] | took [s] | ratio |\n| --- | --- | --- | --- |')
for (const [part, took] of Object.entries(seconds)) {
  const expected = sumSeconds(estimated.get(part) ?? [])
  console.log(`| ${part} | ${expected.toFixed(1)} | ${took.toFixed(1)} | ${(expected / took).toFixed(2)} |`)
}
console.log(`\n${((performance.now() - begun) / 1000).toFixed(0)} s in all\n\n| phase | peak memory |\n| --- | --- |`)
for (const [name, bytes] of peaks) console.log(`| ${name} | ${gigabytes(bytes)} |`)
for (const { name, dataset, value } of measures) console.log(name, dataset, value)

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`
}
