import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { at } from '#contract/at.ts'
import { rivalType } from '#contract/exports/file-bench.ts'
import type { MixedTypes } from '#contract/pruning/mixed-types.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { writingDense, writingFile } from '#contract/runs/time/progress.ts'
import { denseMethod, type WeightType, weightText } from '#contract/titles.ts'
import { makeScratchFolder } from '#engine/checkpoint/scratch-folder.ts'
import type { ReadData } from '#engine/data/read-data.ts'
import { holdsBoth } from '#engine/estimate/memory.ts'
import { outlineFormats } from '#engine/export/check-save.ts'
import type { ExportRequest, WriteWatch } from '#engine/export/format.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { layOutGguf } from '#engine/export/gguf/gguf-file.ts'
import { type Model, openModel, withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import type { MethodResult } from '#engine/pruning/method.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { importancesOf, mixWeights, namesOf, readWeighingText } from './mixed-weights.ts'
import type { RunPlace } from './run-place.ts'

/** A run's result as a GGUF file of its weight type. */
export interface StoredWeights {
  /** The result, with the types of its matrices if these were chosen. */
  readonly result: MethodResult
  /** What mixed types were chosen by. */
  readonly mixed?: MixedTypes
  readonly bytes: number
  /** Everything besides the plan that determines the file. */
  readonly identity: { readonly writer: number; readonly type: string; readonly importances: string | null }
  /** Returns the file. Writes it first if necessary. */
  open(): Promise<WrittenFile>
  /**
   * Writes the dense model in F16 beside it, so that both can be timed in turns. Returns undefined if the file already is the dense model
   * in F16.
   */
  writeDense(): Promise<string | undefined>
  close(): Promise<void>
}

interface WrittenFile {
  readonly model: Model
  readonly path: string
  readonly bytes: number
  /** The folder for further files. */
  readonly folder: string
  close(): Promise<void>
}

/** The result of this step is the file's size. A run that finds the size and all measures stored does not write the file. */
const fileStep: StepKind = { version: 1 }

/** Increase this when the bytes written for a plan change, because all measures of the file depend on them. */
const writer = 2

/** Throws before any work if the weight type cannot hold this model at all, or if its library is not installed. */
export function requireWeightType({ model, request }: RunPlace): void {
  if (request.weights !== undefined) layOutGguf({ model, plan: densePlan(model.spec) }, request.weights)
}

/** The result in the request's weight type; undefined if the request has none. */
export async function storeWeights(place: RunPlace, refitted: MethodResult): Promise<StoredWeights | undefined> {
  const { weights: type } = place.request
  if (type === undefined) return undefined
  const text = await readWeighingText(place, type)
  const { result, ...mixed } = await mixWeights(place, refitted, text)
  if (text)
    place.note(
      `Errors of ${weightText(type)} were weighted by importances, measured on ${text.windows.length} windows of ${namesOf(text).join(' and ')}${text.used.beginToken ? ', each beginning with the begin token' : ''}.`,
    )
  const identity = { writer, type, importances: text?.used.hash ?? null }
  let written: Promise<WrittenFile> | undefined
  const open = () => {
    written ??= writeWeights(place, result, type, text)
    return written
  }
  const close = async () => (await written?.catch(() => undefined))?.close()
  let rival: Promise<string | undefined> | undefined
  const dense = () => {
    rival ??= open().then(({ folder }) => writeDense(place, join(folder, 'dense')))
    return rival
  }
  try {
    const asked = {
      kind: fileStep,
      label: `file in ${type}`,
      on: { plan: result.plan, weights: identity, method: place.request.method, name: place.model.name },
    }
    const bytes = await place.steps.step(asked, async () => (await open()).bytes)
    return { result, ...mixed, bytes, identity, open, writeDense: dense, close }
  } catch (thrown) {
    await close()
    throw thrown
  }
}

async function writeWeights(place: RunPlace, result: MethodResult, type: WeightType, text: ReadData | undefined): Promise<WrittenFile> {
  const { model, request, steps } = place
  const folder = await makeScratchFolder()
  const remove = () => rm(folder, { recursive: true, force: true })
  try {
    const importances = text && (await importancesOf(place, result, text))
    const { plan, tensors } = result
    const weights = { ...(tensors ? { tensors } : {}), ...(importances ? { importances } : {}) }
    const watch = await watchFile(place, writingFile(type), plan, type)
    const file = await steps.time('quantising', () =>
      writeFile({ model, plan, method: request.method, folder: join(folder, 'file'), ggufTypes: [type], watch, ...weights }),
    )
    if (!holdsBoth(model.spec, specWithPlan(model.spec, plan), model.memoryBytes)) model.store.empty()
    const opened = await openModel(file.path, request.memoryBytes)
    const close = async () => {
      await opened.close()
      await remove()
    }
    return { model: withProducts(opened, productsFor(place.precision)), ...file, folder, close }
  } catch (thrown) {
    await remove()
    throw thrown
  }
}

/** Reports how much of a GGUF file is written. */
async function watchFile({ model, steps }: RunPlace, phase: string, plan: Plan, type: WeightType): Promise<WriteWatch> {
  const [outline] = await outlineFormats({ model, plan }, ['gguf'], [type])
  const total = outline?.bytes ?? 0
  let done = 0
  const report = () => steps.progress(phase, Math.min(done, total), total, 'bytes')
  report()
  return {
    signal: steps.host.signal,
    onBytes(bytes) {
      done += bytes
      report()
    },
  }
}

/** Writes one GGUF file. */
export async function writeFile(request: ExportRequest): Promise<{ path: string; bytes: number }> {
  await gguf.write(request)
  const { path, bytes } = at((await gguf.filesIn?.(request.folder)) ?? [], 0)
  return { path, bytes }
}

async function writeDense(place: RunPlace, folder: string): Promise<string | undefined> {
  const { model, request, steps } = place
  const { method, weights: type } = request
  if (method === denseMethod && type === rivalType) return undefined
  const plan = densePlan(model.spec)
  const watch = await watchFile(place, writingDense, plan, rivalType)
  const { path } = await steps.time('writing the dense file', () =>
    writeFile({ model, plan, method: denseMethod, folder, ggufTypes: [rivalType], watch }),
  )
  return path
}
