import { readdir, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { z } from 'zod'
import { bitsMeasure, whyApart } from '#contract/comparison/comparable.ts'
import { sourceName } from '#contract/data/source-name.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import {
  countFormat,
  type ExportedRun,
  type ExportedTexts,
  type FormatOutline,
  formatOutline,
  type KeptFile,
  type SavedFile,
  savedFile,
} from '#contract/exports/exports.ts'
import { fileBench, speedRange } from '#contract/exports/file-bench.ts'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { Transfer } from '#contract/models/models.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { Recovery } from '#contract/pruning/recovery.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { formatTitles, ggufTypesOf, mixedBytes, type WeightType, weightText } from '#contract/titles.ts'
import type { History } from '#db/history.ts'
import type { StoredModel } from '#db/models.ts'
import { baselineIn } from '#db/runs/baselines.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { Calls } from '../context.ts'
import { askDesk } from '../machine/ask-desk.ts'
import { currentSettings } from '../machine/current-settings.ts'
import { confine, safeFileName } from '../models/folders.ts'
import type { Move } from '../models/transfers.ts'
import { refuseProblems } from '../runs/preview-runs.ts'
import { Service } from '../service.ts'
import { checkSpace, checkTarget } from './check-target.ts'

interface Target {
  folder: string
  formats: string[]
  ggufTypes: string[]
  replace: boolean
}

type SaveChoice = Pick<Target, 'formats' | 'replace'> & { ggufTypes?: string[] | undefined }

type OutlineQuestion = Omit<Extract<ComputeTask, { kind: 'outline save' }>, 'kind'>

/**
 * Writes a run's pruned model in one or more formats, and adds each file or folder to the library, with the dense model as its parent. Also
 * checks in advance whether this is possible, and how large the result would be.
 */
export class ExportsService extends Service {
  readonly calls: Pick<Calls<'runs'>, 'runs.save' | 'runs.saved' | 'runs.checkSave' | 'runs.formats'> = {
    'runs.checkSave': async ({ model: id, method, amount, options, ...target }) => {
      const { path: model } = this.parts.library.find(id)
      const { formats, ggufTypes } = target
      const wanted = { ...(amount ? { amount } : {}), ...(options ? { options } : {}) }
      return { formats: await this.#check({ model, plan: null, method, formats, ggufTypes, ...wanted }, target) }
    },
    'runs.formats': async ({ id }) => {
      const { row, model, plan } = this.#find(id)
      const formats = Object.keys(formatTitles)
      const measured = this.history.documents.request(row.number).weights
      const mixed = measured !== undefined && mixedBytes(measured) !== undefined ? [measured] : []
      const ggufTypes = [...mixed, ...ggufTypesOf(model.description)]
      return { formats: await this.#outline({ model: model.path, plan, method: row.method, formats, ggufTypes }) }
    },
    'runs.saved': ({ id }) => keptFiles(this.history.transfers.exportsOf(this.history.runs.get(id).id)),
    'runs.save': ({ id, name, folder, ...rest }) => this.#save(id, name, folder, rest),
  }

  async #save(
    id: string,
    name: string | undefined,
    folder: string | undefined,
    { ggufTypes: types, ...rest }: SaveChoice,
  ): Promise<Transfer> {
    const { row, model, plan } = this.#find(id)
    const title = name ?? `${model.name} ${row.name}`
    const { folders, memoryBytes } = currentSettings(this.parts)
    const request = this.history.documents.request(row.number)
    const budgets = [memoryBytes, request.memoryBytes].filter((bytes) => typeof bytes === 'number')
    const ggufTypes = types ?? [typeOf(request) ?? 'F16']
    const target: Target = { folder: folder ?? confine(join(folders.exports, safeFileName(title)), [folders.exports]), ...rest, ggufTypes }
    const { formats } = target
    const outlines = await this.#check({ model: model.path, plan, method: row.method, formats, ggufTypes }, target)
    const { calibration, seed, localFolder } = request
    const save = this.#prepare(row, title, {
      kind: 'save',
      seed,
      ...(calibration ? { calibration } : {}),
      begins: this.history.documents.find(row.number).beginToken?.begins ?? false,
      ...(localFolder ? { localFolder } : {}),
      model: model.path,
      fingerprint: row.fingerprint,
      plan,
      method: row.method,
      run: exportedRun(this.history, row, model),
      ...target,
      ...(budgets.length === 0 ? {} : { memoryBytes: Math.min(...budgets) }),
    })
    const work = { kind: 'export' as const, name: title, totalBytes: sumBytes(outlines), request: { run: id, ...target } }
    return this.parts.transfers.begin(work, async (...args) => {
      const [, report] = args
      const saved = await Promise.all((await save(...args)).map((file) => weighed(file, request)))
      report({ saved })
      return this.#register(saved, title, model.id, id)
    }).transfer
  }

  /** Returns a function that writes the files. The transfer calls it with its signal and its progress listener. */
  #prepare(row: RunRow, title: string, task: ComputeTask): Save {
    const { exporter, logs, history } = this.parts
    return async (signal, report, id) => {
      const job = exporter.perform(task, {
        signal,
        claimant: { id, title: `the export of ${title}` },
        onEvent: (event) => report(progressOf(event)),
        onOutput: (chunk) => logs.append(row.id, chunk),
        getStep: (name) => history.steps.find(name),
        fetchFile: (file, stop) => this.parts.fetchFile(file, stop, () => undefined),
      })
      return z.array(savedFile).parse(await job.result)
    }
  }

  async #outline(question: OutlineQuestion): Promise<FormatOutline[]> {
    return z.array(formatOutline).parse(await askDesk(this.parts.desk, { kind: 'outline save', ...question }))
  }

  /** Returns the size in each format. Throws if the target folder, a format or the disk space rules out the save. */
  async #check(question: OutlineQuestion, { folder, replace }: Target): Promise<FormatOutline[]> {
    await checkTarget(folder, question.model, replace)
    const outlines = await this.#outline(question)
    refuseFormats(outlines)
    await checkSpace(folder, sumBytes(outlines))
    return outlines
  }

  #find(id: string): { row: RunRow; model: StoredModel; plan: Plan | null } {
    const row = this.history.runs.get(id)
    if (!row.has_plan)
      throw new EspalierError('conflict', `"${row.name}" has no plan: it is ${row.status}. Choose a run that has finished pruning.`)
    return { row, model: this.parts.library.find(row.model), plan: row.baseline ? null : this.history.documents.plan(row.number) }
  }

  /** Adds the files that can be reopened to the library, and removes the entries that they overwrote. Returns the id of the first one. */
  async #register(files: readonly SavedFile[], title: string, parent: string, run: string): Promise<string | null> {
    const { models } = this.history
    const ids: string[] = []
    const readable = files.filter(({ reload }) => reload !== null)
    for (const { path, format, type } of readable) {
      const overwritten = models.atPath(path)
      if (overwritten) models.setRemoved(overwritten.id, Date.now(), false)
      const name = readable.length === 1 ? title : `${title} ${type === null ? format : weightText(type)}`
      ids.push((await this.parts.library.register(path, { name, origin: 'exported', source: null, parent, run })).id)
    }
    return ids[0] ?? null
  }
}

type Save = (...args: Parameters<Move>) => Promise<SavedFile[]>

/** Reads an event of a save: how many bytes are written, and then how many files are reopened. */
function progressOf(event: unknown): Pick<Partial<Transfer>, 'doneBytes' | 'totalBytes' | 'opened'> {
  const { done, total, unit } = event as { done?: number; total?: number; unit?: string }
  if (typeof done !== 'number' || typeof total !== 'number') return {}
  if (unit === 'bytes') return { doneBytes: done, totalBytes: total }
  return unit === 'files' ? { opened: { done, total } } : {}
}

/** The weight type that a run was measured in or sized for. Undefined if neither. */
const typeOf = ({ weights, amount }: RunRequest): WeightType | undefined => weights ?? ('bytes' in amount ? amount.type : undefined)

/** Adds the size that the run was asked for, if it was asked for one in this format and type. */
async function weighed(file: SavedFile, request: RunRequest): Promise<SavedFile> {
  const { amount } = request
  if (!('bytes' in amount) || amount.format !== file.format) return file
  if (file.type !== null && file.type !== (typeOf(request) ?? 'F16')) return file
  const bytes = file.type === null ? await weightBytesIn(file.path) : file.bytes
  return { ...file, budget: { bytes, asked: amount.bytes } }
}

async function weightBytesIn(folder: string): Promise<number> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.safetensors'))
  return (await Promise.all(names.map(async (name) => (await stat(join(folder, name))).size))).reduce((sum, size) => sum + size, 0)
}

/** Returns the files of exports, newest first. Of several saves to one place, the newest is there. */
function keptFiles(transfers: readonly Transfer[]): Promise<KeptFile[]> {
  const newest = new Map<string, Omit<KeptFile, 'isMissing'>>()
  for (const { saved = [] } of transfers)
    for (const file of saved) if (!newest.has(file.path)) newest.set(file.path, { ...file, together: countFormat(saved, file.format) })
  return Promise.all(
    [...newest.values()].map(async (file) => ({
      ...file,
      isMissing: await stat(file.path).then(
        () => false,
        () => true,
      ),
    })),
  )
}

const sumBytes = (outlines: readonly FormatOutline[]): number => outlines.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0)

/** Throws if one of the formats cannot hold the model. */
function refuseFormats(outlines: readonly FormatOutline[]): void {
  const problems = outlines.flatMap(({ problem }) =>
    problem === null ? [] : [{ code: 'infeasible' as const, field: 'formats', message: problem }],
  )
  refuseProblems(problems)
}

/** Returns what the model card of a saved model says about its run. Dense values come from the baseline of the run's experiment. */
function exportedRun(history: History, row: RunRow, model: StoredModel): ExportedRun {
  const { calibration, repair, recovery, request } = history.documents.find(row.number)
  const baseline = baselineIn(history, row)
  const [own] = history.runs.entries([row.number])
  const { weights = null } = request
  const isSameType = baseline && (history.documents.request(baseline.number).weights ?? null) === weights
  const [dense] = isSameType ? history.runs.entries([baseline.number]) : []
  return {
    seed: row.seed,
    baseModel: model.origin === 'downloaded' && model.source ? model.source : model.name,
    calibration: textsOf(calibration),
    repair: repair && { kind: repair.kind, texts: textsOf(repair.calibration) },
    recovery: recovery && recoveredBy(recovery),
    weights,
    measures: lossesOf(own).map(({ name, dataset, value }) => {
      const before = lossesOf(dense).find((other) => other.name === name && other.dataset === dataset)
      const isComparable = own && dense && whyApart(own, dense, { name, dataset }) === null
      return { name, dataset: dataset || 'the evaluation text', before: (isComparable && before?.value) || null, after: value }
    }),
  }
}

/** The training that led to the kept weights; null if it made nothing better, so that the weights stayed unchanged. */
function recoveredBy({ best, points, tokens, trains = 'all', text }: Recovery): ExportedRun['recovery'] {
  return best === 0 ? null : { tokens: points[best]?.tokens ?? tokens, trains, texts: textsOf(text) }
}

function textsOf(data: UsedData | null): ExportedTexts {
  return (data?.parts ?? (data ? [data] : [])).map(({ source, windows, sequenceLength, beginToken }) => ({
    source: sourceName(source),
    windows,
    sequenceLength,
    ...(beginToken ? { beginToken } : {}),
  }))
}

const lossesOf = (run: RunEntry | undefined) => (run?.measures ?? []).filter(({ name }) => name === 'perplexity' || name === bitsMeasure)

/** Measures GGUF files in llama.cpp: files that exist, and the range of speeds that a method's files could reach. */
export class BenchService extends Service {
  readonly calls: Calls<'bench'> = {
    'bench.files': async (request) => {
      const files = request.files.map((file) => resolve(file))
      for (const file of files) await requireFile(file)
      const name = files.map((file) => basename(file)).join(', ')
      const resolved = { ...request, files }
      return this.#measure(name, resolved, { kind: 'bench files', ...resolved }, (found) => ({ bench: fileBench.parse(found) }))
    },
    'bench.speeds': ({ model: id, ...request }) => {
      const { path: model, name } = this.parts.library.find(id)
      const resolved = { ...request, model }
      const { memoryBytes } = currentSettings(this.parts)
      const task = { kind: 'speed range' as const, ...resolved, ...(memoryBytes === null ? {} : { memoryBytes }) }
      return this.#measure(name, resolved, task, (found) => ({ speeds: speedRange.parse(found) }))
    },
  }

  /** Begins a measurement. Its transfer reports the turns, and finally the fields that `read` takes from the result. */
  #measure(name: string, request: Record<string, unknown>, task: ComputeTask, read: (found: unknown) => Partial<Transfer>): Transfer {
    return this.parts.transfers.begin({ kind: 'bench', name, totalBytes: null, request }, async (signal, report, id) => {
      const job = this.parts.exporter.perform(task, {
        signal,
        claimant: { id, title: `the measurement of ${name}` },
        onEvent: (event) => report({ turns: event as { done: number; total: number } }),
        fetchFile: (file, stop) => this.parts.fetchFile(file, stop, () => undefined),
      })
      report(read(await job.result))
      return null
    }).transfer
  }
}

async function requireFile(file: string): Promise<void> {
  const found = await stat(file).catch(() => undefined)
  if (!found?.isFile()) throw new EspalierError('not-found', `${file} is not a file. Give a GGUF file.`)
}
