import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { at } from '#contract/at.ts'
import { denseMethod } from '#contract/titles.ts'
import type { ExportRequest } from '#engine/export/format.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { layOutGguf } from '#engine/export/gguf/gguf-file.ts'
import { measureImportances } from '#engine/export/gguf/measure-importances.ts'
import { findMix, weighsErrors } from '#engine/export/gguf/mix.ts'
import { type Model, openModel, withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import type { MethodResult } from '#engine/pruning/method.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import type { RunPlace } from './run-place.ts'
import { weighingText } from './weighing-text.ts'

/** The weight type of the dense file that every file is timed beside. */
const denseType = 'F16'

/** What a run made, read back from a GGUF file of its weight type. */
export interface StoredWeights {
  readonly model: Model
  readonly path: string
  readonly bytes: number
  /** What determines the file besides the plan. */
  readonly identity: { readonly type: string; readonly importances: string | null }
  /** Writes the dense model in F16 beside it, to be timed in turns. Undefined if the file is just that. */
  writeDense(): Promise<string | undefined>
  close(): Promise<void>
}

/** Throws early if the type cannot hold this model at all, or if its library is not installed. */
export function requireWeightType({ model, request }: RunPlace): void {
  if (request.weights !== undefined) layOutGguf({ model, plan: densePlan(model.spec) }, request.weights)
}

/** Writes the result in the weight type of the request and opens the file. Undefined without a weight type. */
export async function storeWeights(place: RunPlace, result: MethodResult): Promise<StoredWeights | undefined> {
  const { model, request, steps } = place
  const { weights: type, method } = request
  if (type === undefined) return undefined
  const { signal } = steps.host
  const folder = await mkdtemp(join(tmpdir(), 'espalier-weights-'))
  const remove = () => rm(folder, { recursive: true, force: true })
  try {
    const { importances, hash } = await steps.time('weighing columns', () => weigh(place, result, type))
    const target = join(folder, 'file')
    const { plan, tensors } = result
    const weights = { ...(tensors ? { tensors } : {}), ...(importances ? { importances } : {}) }
    const file = await steps.time('quantising', () =>
      writeFile({ model, plan, method, folder: target, ggufTypes: [type], watch: { signal }, ...weights }),
    )
    const opened = await openModel(file.path, request.memoryBytes)
    const close = async () => {
      await opened.close()
      await remove()
    }
    return {
      model: withProducts(opened, productsFor(place.precision)),
      ...file,
      identity: { type, importances: hash },
      writeDense: () => writeDense(place, join(folder, 'dense')),
      close,
    }
  } catch (thrown) {
    await remove()
    throw thrown
  }
}

async function writeFile(request: ExportRequest): Promise<{ path: string; bytes: number }> {
  await gguf.write(request)
  const { path, bytes } = at((await gguf.filesIn?.(request.folder)) ?? [], 0)
  return { path, bytes }
}

async function writeDense({ model, request, steps }: RunPlace, folder: string): Promise<string | undefined> {
  const { method, weights: type } = request
  if (method === denseMethod && type === denseType) return undefined
  const plan = densePlan(model.spec)
  const { path } = await steps.time('writing the dense file', () =>
    writeFile({ model, plan, method: denseMethod, folder, ggufTypes: [denseType], watch: { signal: steps.host.signal } }),
  )
  return path
}

async function weigh(place: RunPlace, { plan, tensors }: MethodResult, type: string) {
  const { model, request, steps } = place
  if (!weighsErrors(findMix(type))) return { hash: null }
  const { windows, used } = await place.read(weighingText(request.calibration, model.spec.contextLength), request.seed)
  const texts = (used.parts ?? [used]).map(({ source }) => basename(source))
  place.note(`Errors of ${type} were weighed by importances on ${windows.length} windows of ${texts.join(' and ')}.`)
  const view = viewWithPlan(model, plan, tensors)
  const progress = (done: number, total: number) => steps.progress('Weighing columns', done, total, 'parts')
  try {
    return { importances: await measureImportances(view, windows, texts, { signal: steps.host.signal, progress }), hash: used.hash }
  } finally {
    view.dispose()
  }
}
