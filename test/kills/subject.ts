import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { RunDocument } from '#contract/runs/run.ts'
import { connect } from '#db/database.ts'

/** What is killed and how often, and the expected outcome. */
export interface Killing {
  model: string
  method: string
  /** The outcome of an undisturbed command. */
  outcome: Outcome
  /** The duration of an undisturbed command. */
  seconds: number
  random(): number
  count: number
  folder: string
  /** Additional flags of the command. */
  flags?: readonly string[]
  /** Kills wait for a run of this method to begin; without it, for any run. */
  during?: string
}

/** What must be the same whether a run was killed or not. */
export type Outcome = Pick<RunDocument, 'plan' | 'divergence'>

/** One pruning command. */
export type Subject = Pick<Killing, 'model' | 'method' | 'folder' | 'flags'>

export interface Killed {
  kills: number
  interrupted: number
  done: number
}

const source = join(import.meta.dirname, '..', '..', 'src-main')
/** Windows of token ids. With eight of them, kills fall into loading, deciding and ending equally often. */
export const calibration = {
  source: join(import.meta.dirname, '..', 'fixtures', 'reference', 'calibration-windows.json'),
  sequenceLength: 256,
  windows: 8,
}

export interface Command {
  child: ChildProcess
  printed: Promise<string>
}

/** Windows to compare a pruned model with the dense one on. */
export const evaluation = join(import.meta.dirname, '..', 'fixtures', 'reference', 'test-windows.json')

/** Starts the command that prunes the model, over a data folder of its own. */
export function startPruning({ model, method, folder, flags = [] }: Subject): Command {
  const common = [`--pruning_method=${method}`, '--sparsity=0.5', '--calibration_samples=8', '--sequence_length=256', '--json']
  return startCommand([`--model=${model}`, ...common, `--calibration_data=${calibration.source}`, ...flags], folder)
}

export function startCommand(parameters: readonly string[], folder: string, environment: NodeJS.ProcessEnv = {}): Command {
  const child = spawn(process.execPath, [join(source, 'cli', 'main.ts'), ...parameters], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment, ESPALIER_HOME: folder },
  })
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

export function outcomeIn(output: string): Outcome {
  const { plan, divergence } = JSON.parse(output) as RunDocument
  return { plan, divergence }
}

export async function measureUndisturbed(subject: Subject): Promise<{ outcome: Outcome; seconds: number }> {
  const begun = performance.now()
  const outcome = outcomeIn(await startPruning(subject).printed)
  return { outcome, seconds: (performance.now() - begun) / 1000 }
}

/** Tensor files are in the folder of their history; their hashes are part of the plan. */
const withoutPlaces = (outcome: unknown): unknown =>
  JSON.parse(JSON.stringify(outcome, (key, value) => (key === 'file' ? undefined : value)))

export function requireSame(found: unknown, expected: unknown): void {
  if (!isDeepStrictEqual(withoutPlaces(found), withoutPlaces(expected))) throw new Error('A run that was killed ended with another result.')
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

/** A column of all runs; empty if there is no history yet. */
function columnOfRuns(folder: string, column: 'status' | 'attempts', method?: string): unknown[] {
  const file = join(folder, 'history.sqlite')
  if (!existsSync(file)) return []
  const db = connect(file)
  try {
    const made = db.prepare("SELECT count(*) FROM sqlite_master WHERE name = 'runs'").pluck().get()
    return made
      ? db
          .prepare(`SELECT ${column} FROM runs WHERE method = coalesce(?, method)`)
          .pluck()
          .all(method ?? null)
      : []
  } finally {
    db.close()
  }
}

export const statuses = (folder: string, method?: string) => columnOfRuns(folder, 'status', method) as string[]

/** How often runs were started, in total. */
export const attempts = (folder: string, method?: string) =>
  (columnOfRuns(folder, 'attempts', method) as number[]).reduce((sum, one) => sum + one, 0)

/** Ends a process with SIGKILL; false if it had ended by itself. */
export async function killHard(child: ChildProcess): Promise<boolean> {
  const ended = new Promise((resolve) => child.once('exit', resolve))
  if (child.exitCode !== null || child.signalCode !== null || !child.kill('SIGKILL')) return false
  await ended
  return child.signalCode === 'SIGKILL'
}
