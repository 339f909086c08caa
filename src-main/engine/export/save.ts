import { basename, join } from 'node:path'
import type { SavedFile } from '#contract/exports/exports.ts'
import { type FormatId, usualGgufTypes } from '#contract/titles.ts'
import { writeFolderAtomically } from '#engine/checkpoint/write-folder.ts'
import type { ReadData } from '#engine/data/read-data.ts'
import { type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { requireFormats } from './check-save.ts'
import { type ExportRequest, sizesIn, type WriteWatch } from './format.ts'
import type { Importances } from './gguf/importances.ts'
import { measureImportances } from './gguf/measure-importances.ts'
import { findFormat } from './index.ts'
import { type Expectation, expectAnswers, testReload } from './reload-test.ts'

export interface SaveRequest extends Omit<ExportRequest, 'watch' | 'importances'> {
  readonly formats: readonly string[]
  /** Text for the reload test. */
  readonly text: string
  /** Text that importances are measured on, if a weight type uses importances. */
  readonly measuredOn?: ReadData
}

/** What a save needs from its caller. */
interface SaveHost {
  readonly signal?: AbortSignal
  progress(phase: string, done: number, total: number, unit: string): void
}

/**
 * Saves a pruned model in one format, or in several formats with a folder each. Everything appears under its name only when complete. Then
 * each saved model is opened and its answers are compared with the pruned model's.
 */
export async function saveModel(request: SaveRequest, host: SaveHost): Promise<SavedFile[]> {
  const { model, plan, tensors, folder, replace = false } = request
  const ids = [...new Set(request.formats)] as FormatId[]
  const ggufTypes = request.ggufTypes ?? usualGgufTypes
  const total = (await requireFormats(request, ids, ggufTypes)).reduce((sum, { bytes }) => sum + (bytes ?? 0), 0)
  let done = 0
  const watch: WriteWatch = {
    ...(host.signal ? { signal: host.signal } : {}),
    onBytes(bytes) {
      done += bytes
      host.progress('Saving', Math.min(done, total), total, 'bytes')
    },
  }
  const view = viewWithPlan(model, plan, tensors)
  try {
    const toWrite = { ...request, ...(await weigh(view, request, host)), ggufTypes, watch }
    const [only] = ids
    if (ids.length === 1 && only) await findFormat(only).write(toWrite)
    else
      await writeFolderAtomically(
        folder,
        async (temporary) => {
          for (const id of ids) await findFormat(id).write({ ...toWrite, folder: join(temporary, id), replace: false })
        },
        { replace },
      )
    const written = (await Promise.all(ids.map((id) => writtenBy(id, ids.length === 1 ? folder : join(folder, id))))).flat()
    const expected = await expectAnswers(view, model, request.text)
    // Frees the source's weights, because the saved model needs the memory. The source's embedding and head stay loaded.
    model.store.empty()
    return await reloadAll(written, expected, model.freeBytes, host)
  } finally {
    view.dispose()
  }
}

async function weigh(view: ModelView, { measuredOn }: SaveRequest, host: SaveHost): Promise<{ importances?: Importances }> {
  if (!measuredOn) return {}
  const { windows, used } = measuredOn
  const texts = (used.parts ?? [used]).map(({ source }) => basename(source))
  return {
    importances: await measureImportances(view, windows, texts, {
      ...(host.signal ? { signal: host.signal } : {}),
      progress: (done, total) => host.progress('Weighing columns', done, total, 'parts'),
    }),
  }
}

type Written = Omit<SavedFile, 'reload'>

async function reloadAll(written: readonly Written[], expected: Expectation, memoryBytes: number, host: SaveHost): Promise<SavedFile[]> {
  const saved: SavedFile[] = []
  for (const [index, file] of written.entries()) {
    host.signal?.throwIfAborted()
    host.progress('Opening what was saved', index, written.length, 'files')
    saved.push({ ...file, reload: findFormat(file.format).reopens ? await testReload(file.path, expected, memoryBytes) : null })
  }
  host.progress('Opening what was saved', written.length, written.length, 'files')
  return saved
}

/** The models that a format wrote into its folder. */
async function writtenBy(format: FormatId, folder: string): Promise<Written[]> {
  const files = await findFormat(format).filesIn?.(folder)
  const whole = async () => [...(await sizesIn(folder)).values()].reduce((sum, size) => sum + size, 0)
  return (files ?? [{ type: null, path: folder, bytes: await whole() }]).map((file) => ({ format, ...file }))
}
