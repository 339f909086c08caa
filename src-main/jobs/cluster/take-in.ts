import { mkdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type AttemptState, attemptState, type RunResult, runResult } from '#contract/clusters/run-file.ts'
import type { Listener } from '#contract/events.ts'
import type { TensorFile } from '#contract/pruning/plan.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import type { History } from '#db/history.ts'
import { type JobRecord, jobOf, type RunRow } from '#db/runs/runs.ts'
import type { RunLogs } from '../run-log.ts'
import { RunRecorder } from '../run-recorder.ts'
import type { ClusterFiles } from './cluster-files.ts'
import { isFinished, namesIn, type RunFolder, readNodeFile, readStep, readWhole, requireNodeFile } from './run-folder.ts'
import { placeFile } from './shared-steps.ts'

/** The most bytes and lines that are read per turn. The rest follows in the next turn. */
const mostBytes = 16_000_000
const mostLines = 10_000

export interface TakeInParts {
  history: History
  logs: RunLogs
  emit: Listener
}

/** The state of a run's folder, after everything new was added to the history. */
export interface Taken {
  /** State of the latest attempt. */
  state: AttemptState | undefined
  result: RunResult | undefined
  attempts: number
  /** Whether anything was new. */
  news: boolean
  recorder: RunRecorder
}

/** Adds what nodes wrote since the last turn to the history: steps, events, log and progress, each once. */
export function takeIn(parts: TakeInParts, row: RunRow, folder: RunFolder, knownSteps: Set<string>): Taken {
  const { history } = parts
  const attempts = namesIn(folder.attempts)
  const states = attempts.map((attempt) => readWhole(attemptState, join(folder.attempts, attempt, 'state.json')))
  const seconds = states.reduce((sum, state) => sum + (state?.seconds ?? 0), 0)
  const recorder = new RunRecorder(history, row, parts.emit, () => Math.max(0, seconds - (row.seconds ?? 0)))
  let news = takeSteps(parts, row, folder, knownSteps)
  for (const attempt of attempts) if (takeAttempt(parts, row, folder, attempt, recorder)) news = true
  const state = states.at(-1)
  if (state?.progress) recorder.event({ type: 'progress', progress: state.progress })
  recorder.flush()
  return { state, result: readWhole(runResult, folder.result), attempts: attempts.length, news, recorder }
}

/** Adds steps that are not known yet to the history. Returns whether there were any. */
export function takeSteps({ history, emit }: TakeInParts, row: RunRow, folder: RunFolder, known: Set<string>): boolean {
  const recorder = new RunRecorder(history, row, emit)
  const fresh = namesIn(folder.steps).filter((name) => isFinished(name) && !known.has(name))
  for (const name of fresh) {
    const step = readStep(join(folder.steps, name), folder.tensors)
    if (!step) continue
    recorder.putStep(step.name, step.value, step.tensors && keepTensors(history, step.tensors))
    known.add(name)
  }
  return fresh.length > 0
}

/** Links or copies a tensor file into the history's folder, and returns its entry there. */
export function keepTensors(history: History, tensors: TensorFile): TensorFile {
  const { tensorFolder } = history.values
  const kept = join(tensorFolder, basename(history.values.nameTensors(tensors).file))
  requireNodeFile(tensors.file)
  mkdirSync(tensorFolder, { recursive: true })
  placeFile(tensors.file, kept)
  return { ...tensors, file: kept }
}

/** Returns a document that a node wrote, with its paths translated to this machine and its tensor files added to the history. */
export function documentAsHere(files: ClusterFiles, history: History, run: string, document: unknown): unknown {
  const settled = structuredClone(document) as Partial<RunDocument>
  for (const data of [settled.calibration, settled.repair?.calibration, settled.recovery?.text, ...(settled.evaluation ?? [])])
    for (const one of [data, ...(data?.parts ?? [])]) if (one) one.source = files.placed(run, one.source)
  const { plan } = settled
  if (plan?.tensors) plan.tensors = plan.tensors.map((file) => keepTensors(history, { ...file, file: files.placed(run, file.file) }))
  return settled
}

/** Reads the events and the log of one attempt from the last position. Stores the events and the new position in one transaction. */
function takeAttempt({ history, logs }: TakeInParts, row: RunRow, folder: RunFolder, attempt: string, recorder: RunRecorder): boolean {
  const job = jobOf(history.runs.find(row.id) ?? row)
  if (!job || attempt < job.read.attempt) return false
  const read = attempt === job.read.attempt ? job.read : { attempt, events: 0, log: 0 }
  const events = readLines(join(folder.attempts, attempt, 'events.jsonl'), read.events)
  const log = readNodeFile(join(folder.attempts, attempt, 'log.txt'), read.log, mostBytes)
  if (attempt === job.read.attempt && events.bytes === 0 && log.length === 0) return false
  history.transaction(() => {
    const unread = events.lines.filter((line) => !takeEvent(recorder, line)).length
    if (unread > 0) recorder.event({ type: 'note', text: `${unread} events from the cluster could not be read.` })
    const next: JobRecord = { ...job, read: { attempt, events: read.events + events.bytes, log: read.log + log.length } }
    history.runs.patch(row.number, { job: next })
  })
  if (read.log === 0) logs.append(row.id, `--- attempt ${Number(attempt)}\n`)
  logs.append(row.id, log.toString())
  return true
}

/** Records the event in a line. Returns false if the line is not an event. */
function takeEvent(recorder: RunRecorder, line: string): boolean {
  try {
    const { at, event } = JSON.parse(line) as { at?: unknown; event?: unknown }
    recorder.event(event, typeof at === 'number' ? Math.round(at) : Date.now())
    return true
  } catch {
    return false
  }
}

/** Reads the complete lines from a position on. A partial last line is left for the next turn. */
function readLines(file: string, position: number): { lines: string[]; bytes: number } {
  const text = readNodeFile(file, position, mostBytes)
  let whole = 0
  for (let count = 0; count < mostLines; count++) {
    const next = text.indexOf('\n', whole) + 1
    if (next === 0) break
    whole = next
  }
  // A line longer than one read would never be complete, so it is skipped.
  const bytes = whole === 0 && text.length === mostBytes ? text.length : whole
  return { lines: text.toString('utf8', 0, bytes).split('\n').filter(Boolean), bytes }
}
