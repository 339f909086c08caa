import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performTask } from '#compute/engine-tasks.ts'
import { toErrorMessage } from '#contract/errors.ts'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { isAblation } from '#contract/titles.ts'
import { type History, openHistory } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { releaseModel } from '#engine/model/kept-model.ts'
import { RunRecorder } from '#jobs/run-recorder.ts'
import { insertRun } from '../db/rows.ts'

/** How a run is related to runs already in the history. */
export type Relation = 'alone' | 'in the same experiment' | 'as a clone'
export interface Related {
  relation?: Relation
  base?: RunRequest
  subjects?: Subjects
  /** The run to resume, if it is not a new one. */
  resumed?: string
  /** Called before each step is stored. */
  beforeStep?: (name: string) => void
}
export type Subjects = Extract<ComputeTask, { kind: 'inspection' }>['subjects']

/** A history whose runs this process computes, one after the other, with the real engine and the real recorder. */
export class OneHistory implements AsyncDisposable {
  readonly folder: string
  history: History
  readonly #experiment = newId('exp')
  /** The run of each request, so that a clone of it has its parent. */
  readonly #runs = new Map<RunRequest, string>()

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'espalier-same-'))
    this.history = openHistory(this.folder)
    this.history.experiments.insert({ id: this.#experiment, name: 'one', notes: '', tags: [], grid: null, createdAt: 1 })
  }

  /** Simulates a restart of the program. */
  async restart(): Promise<void> {
    await releaseModel()
    this.history.close()
    this.history = openHistory(this.folder)
  }

  /**
   * Runs a request; returns its result without what differs from run to run, or its error. @param base the request that it was cloned from,
   * where it is a clone
   */
  async run(
    request: RunRequest,
    { relation = 'alone', base = request, subjects = [], beforeStep, resumed }: Related = {},
  ): Promise<unknown> {
    const id = resumed ?? insertRun(this.history, { experiment: relation === 'alone' ? null : this.#experiment, seed: request.seed }).id
    const row = this.history.runs.find(id)
    if (!row) throw new Error('no row')
    const set = this.history.db.prepare('UPDATE run_documents SET request = ? WHERE run = ?')
    set.run(JSON.stringify(request), row.number)
    const parent = relation === 'as a clone' ? (this.#runs.get(base) ?? null) : null
    const recorder = new RunRecorder(this.history, { ...row, parent }, () => undefined)
    this.#runs.set(request, id)
    try {
      const result = await performTask(taskOf(request, subjects), hostOf(this.history, recorder, beforeStep))
      if (!request.inspect) recorder.finish(result, { platform: '', node: '', device: null, memoryBytes: null })
      return timeless(result)
    } catch (thrown) {
      const { code, message } = toErrorMessage(thrown)
      return { code, message }
    }
  }

  /** The run created for this request. */
  runOf = (request: RunRequest): string => this.#runs.get(request) as string

  async [Symbol.asyncDispose](): Promise<void> {
    await releaseModel()
    this.history.close()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Runs the same request in an empty history. */
export async function runFresh(request: RunRequest, subjects: Subjects = []): Promise<unknown> {
  await releaseModel()
  await using fresh = new OneHistory()
  return await fresh.run(request, { subjects })
}

function taskOf(request: RunRequest, subjects: Subjects): ComputeTask {
  if (request.inspect) return { kind: 'inspection', request, subjects }
  return { kind: isAblation(request.method) ? 'ablation' : 'run', request }
}

function hostOf(history: History, recorder: RunRecorder, beforeStep: Related['beforeStep']): Parameters<typeof performTask>[1] {
  const { signal } = new AbortController()
  return {
    steps: {
      folder: history.values.tensorFolder,
      get: async (name) => recorder.getStep(name),
      async put(name, value, tensors) {
        beforeStep?.(name)
        recorder.putStep(name, value, tensors)
      },
    },
    fetchFile: () => Promise.reject(new Error('nothing is downloaded here')),
    claimMemory: async () => true,
    emit: (event) => recorder.event(event),
    signal,
    columnSignal: () => signal,
    flow: async () => {},
  }
}

/** Fields that differ from run to run. */
const varyingFields = new Set(['seconds', 'firstTokenSeconds', 'tokensPerSecond', 'passes', 'version', 'file'])
const timeUnits = /^(s|ms|seconds|tokens\/s|tokens per second|GFLOP\/s|×)$/
const isTimeNote = (text: string) => /% of (the|its) time|Inference time is noisy/.test(text)

/** Notes about the machine during timing, which may be missing. */
const isOfTiming = (one: unknown) =>
  typeof one === 'string' ? isTimeNote(one) : (one as { dataset?: string } | null)?.dataset === 'while timing'

/** A result without times, which differ, and without counts of work, which depend on what was already done. */
function timeless(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((one) => !isOfTiming(one)).map(timeless)
  if (typeof value !== 'object' || value === null) return value
  const record = value as Record<string, unknown>
  if (Array.isArray(record.columns) && Array.isArray(record.rows)) return tableWithoutSeconds(record as unknown as Table)
  // llama.cpp's memory is that of its process, which differs as times do.
  const isTaken = record.name === 'memory' && String(record.dataset).endsWith('in llama.cpp')
  const isTime = isTaken || (typeof record.unit === 'string' && timeUnits.test(record.unit))
  const kept = Object.entries(record).filter(([name]) => !varyingFields.has(name) && !(isTime && (name === 'value' || name === 'error')))
  return Object.fromEntries(kept.map(([name, one]) => [name, timeless(one)]))
}

interface Table {
  columns: { label: string }[]
  rows: unknown[][]
}

function tableWithoutSeconds({ columns, rows }: Table): unknown {
  const kept = (_: unknown, at: number) => columns[at]?.label !== 'Seconds'
  return { columns: columns.filter(kept), rows: rows.map((row) => row.filter(kept)) }
}
