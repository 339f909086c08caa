/**
 * Attacks the program with spoiled files and requests for some minutes: `npm run fuzz -- --minutes N --seed S`. What it finds is kept under
 * `out/fuzz`, and repeated with `--seed S --case N`. Ends with exit code 1 when it found anything.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { explainExit } from '#jobs/compute/explain-exit.ts'
import { type Ended, FuzzProcess } from './process.ts'
import { makeRealExport } from './real-export.ts'

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '1' }, seed: { type: 'string', default: '1' }, case: { type: 'string' } },
})
const seed = Number(values.seed)
const findings = join(import.meta.dirname, '..', '..', 'out', 'fuzz')
const scratch = mkdtempSync(join(tmpdir(), 'espalier-fuzz-'))
const realExport = join(scratch, 'experiment.json')
writeFileSync(realExport, await makeRealExport())
let next = 1
let found = 0
const counts = { cases: 0, accepted: 0, refused: 0, limits: 0 }
const worst = { seconds: 0, memoryBytes: 0 }

/** Attacks until a moment, with one process after another. */
async function work(first: FuzzProcess, until: number): Promise<void> {
  let child = first
  while (performance.now() < until) {
    const number = next++
    const ended = await child.perform(seed, number)
    judge(number, ended)
    if (ended.how !== 'answered') child = await FuzzProcess.start(realExport)
  }
  child.end()
}

function judge(number: number, ended: Ended): void {
  counts.cases++
  worst.seconds = Math.max(worst.seconds, ended.seconds)
  worst.memoryBytes = Math.max(worst.memoryBytes, ended.memoryBytes)
  const problem = problemOf(ended)
  if (problem !== undefined) keep(number, ended, problem)
  else if (ended.how === 'died') counts.limits++
  else if (ended.error) counts.refused++
  else counts.accepted++
}

/** What is wrong with the outcome of a case; undefined if it was accepted, refused in a sentence, or ended by a documented limit. */
function problemOf(ended: Ended): string | undefined {
  if (ended.how === 'hung') return `no answer after ${ended.seconds.toFixed(1)} s`
  if (ended.memoryBytes > 1.5e9) return `${(ended.memoryBytes / 1e9).toFixed(2)} GB of memory`
  if (ended.how === 'died') {
    const error = explainExit({ code: ended.code, signal: ended.signal, output: ended.output, memoryBytes: 0, totalBytes: 1 })
    return error.code === 'invalid' ? undefined : `process lost: ${error.message}`
  }
  return ended.error?.raw ? `raw error (${ended.error.code}): ${ended.error.message}` : undefined
}

function keep(number: number, ended: Ended, problem: string): void {
  found++
  const folder = join(findings, `seed-${seed}-case-${number}`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'finding.json'), `${JSON.stringify({ seed, case: number, problem, ...ended }, null, 1)}\n`)
  console.log(`case ${number}, ${ended.kind}: ${problem.slice(0, 300)}`)
}

/** Repeats one case and keeps its files. */
async function repeat(number: number): Promise<void> {
  const folder = join(findings, `seed-${seed}-case-${number}`)
  rmSync(join(folder, 'files'), { recursive: true, force: true })
  const child = await FuzzProcess.start(realExport)
  const ended = await child.perform(seed, number, join(folder, 'files'))
  console.log(JSON.stringify({ ...ended, problem: problemOf(ended) ?? null }, null, 1))
  console.log(`Its files are in ${folder}.`)
  child.end()
  if (problemOf(ended) !== undefined) found++
}

if (values.case !== undefined) await repeat(Number(values.case))
else {
  const children = await Promise.all(Array.from({ length: Math.min(8, 2 * availableParallelism()) }, () => FuzzProcess.start(realExport)))
  // Starting takes as long as the whole attack where other programs keep the machine busy.
  const until = performance.now() + Number(values.minutes) * 60_000
  await Promise.all(children.map((child) => work(child, until)))
  const { cases, accepted, refused, limits } = counts
  console.log(
    `seed ${seed}: ${cases} cases, ${accepted} accepted, ${refused} refused in a sentence, ${limits} ended by a stated limit, ${found} findings;`,
  )
  console.log(
    `the longest took ${worst.seconds.toFixed(1)} s of the processor, the largest process held ${(worst.memoryBytes / 1e6).toFixed(0)} MB.`,
  )
}
rmSync(scratch, { recursive: true, force: true })
process.exitCode = found > 0 || (values.case === undefined && counts.cases === 0) ? 1 : 0
