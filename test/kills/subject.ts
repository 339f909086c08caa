import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import { connect } from '#db/database.ts'

/** What is killed how often, and what must come of it. */
export interface Killing {
  model: string
  plan: Plan
  /** How long an undisturbed command takes. */
  seconds: number
  random(): number
  count: number
  folder: string
  /** Flags of the command beside those of every one. */
  flags?: readonly string[]
}

export interface Killed {
  kills: number
  interrupted: number
  done: number
}

const source = join(import.meta.dirname, '..', '..', 'src-main')
/** Windows of token ids; eight of them, so that a kill meets loading, deciding and ending alike. */
export const calibration = {
  source: join(import.meta.dirname, '..', 'fixtures', 'reference', 'calibration-windows.json'),
  sequenceLength: 256,
  windows: 8,
}

/** Starts the command that prunes the model, over a data folder of its own. */
export function startCommand(
  model: string,
  folder: string,
  more: readonly string[] = [],
): { child: ChildProcess; printed: Promise<string> } {
  const flags = ['--pruning_method=2ssp', '--sparsity=0.5', '--calibration_samples=8', '--sequence_length=256', '--json']
  const child = spawn(
    process.execPath,
    [join(source, 'cli', 'main.ts'), `--model=${model}`, ...flags, `--calibration_data=${calibration.source}`, ...more],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ESPALIER_HOME: folder } },
  )
  let output = ''
  let errors = ''
  child.stdout.on('data', (chunk) => (output += chunk))
  child.stderr.on('data', (chunk) => (errors += chunk))
  const printed = new Promise<string>((resolve, reject) =>
    child.on('close', (code) =>
      code === 0 || code === null ? resolve(output) : reject(new Error(`The command ended with code ${code}: ${errors}`)),
    ),
  )
  printed.catch(() => {})
  return { child, printed }
}

export function planIn(output: string): Plan {
  return (JSON.parse(output) as RunDocument).plan
}

export async function measureUndisturbed(
  model: string,
  folder: string,
  more?: readonly string[],
): Promise<{ plan: Plan; seconds: number }> {
  const begun = performance.now()
  const plan = planIn(await startCommand(model, folder, more).printed)
  return { plan, seconds: (performance.now() - begun) / 1000 }
}

/** Files of tensors lie in the folder of their history; their hashes are part of the plan. */
const withoutPlaces = (plan: unknown): unknown => JSON.parse(JSON.stringify(plan, (key, value) => (key === 'file' ? undefined : value)))

export function requireSamePlan(found: unknown, expected: Plan): void {
  if (!isDeepStrictEqual(withoutPlaces(found), withoutPlaces(expected))) throw new Error('A run that was killed ended with another plan.')
}

/** Throws unless the history is whole: its pages, its indexes, and what its rows refer to. */
export function requireWhole(folder: string): void {
  const file = join(folder, 'history.sqlite')
  if (!existsSync(file)) return
  const db = connect(file)
  try {
    const integrity = db.pragma('integrity_check', { simple: true })
    const dangling = db.pragma('foreign_key_check') as unknown[]
    if (integrity !== 'ok') throw new Error(`The history is damaged: ${String(integrity)}`)
    if (dangling.length > 0) throw new Error(`${dangling.length} rows of the history refer to nothing.`)
  } finally {
    db.close()
  }
}

/** A column of the runs; none when the history was not made yet. */
function columnOfRuns(folder: string, column: 'status' | 'attempts'): unknown[] {
  const file = join(folder, 'history.sqlite')
  if (!existsSync(file)) return []
  const db = connect(file)
  try {
    const made = db.prepare("SELECT count(*) FROM sqlite_master WHERE name = 'runs'").pluck().get()
    return made ? db.prepare(`SELECT ${column} FROM runs`).pluck().all() : []
  } finally {
    db.close()
  }
}

export const statuses = (folder: string) => columnOfRuns(folder, 'status') as string[]

/** How often runs were begun, all together. */
export const attempts = (folder: string) => (columnOfRuns(folder, 'attempts') as number[]).reduce((sum, one) => sum + one, 0)

export const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds))
