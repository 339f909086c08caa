import { basename, join } from 'node:path'
import type { ReloadTest, SavedFile } from '#contract/exports/exports.ts'
import { type FormatId, usualGgufTypes } from '#contract/titles.ts'
import { writeFolderAtomically } from '#engine/checkpoint/write-folder.ts'
import type { ReadData } from '#engine/data/read-data.ts'
import type { Windows } from '#engine/data/windows.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openTrimmed } from '#engine/model/kept-model.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { requireFormats } from './check-save.ts'
import { type ExportRequest, sizesIn, type WriteWatch } from './format.ts'
import { type Importances, measureImportances } from './gguf/importances.ts'
import { findFormat } from './index.ts'

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
    const toWrite = { ...request, ...(await weigh(request, host)), ggufTypes, watch }
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
    const expected = await expectAnswers(view, request)
    // Frees the source's weights, because the saved model needs the memory. The source's embedding and head stay loaded.
    model.store.empty()
    return await reloadAll(written, expected, model.freeBytes, host)
  } finally {
    view.dispose()
  }
}

async function weigh({ model, plan, tensors, measuredOn }: SaveRequest, host: SaveHost): Promise<{ importances?: Importances }> {
  if (!measuredOn) return {}
  const { windows, used } = measuredOn
  const texts = (used.parts ?? [used]).map(({ source }) => basename(source))
  // The text has the ids of the whole vocabulary. Which rows of it are kept changes nothing in the blocks.
  const { vocabulary: _, ...blocks } = plan
  const view = viewWithPlan(model, blocks, tensors)
  try {
    const importances = await measureImportances(view, windows, texts, {
      ...(host.signal ? { signal: host.signal } : {}),
      progress: (done, total) => host.progress('Weighing columns', done, total, 'parts'),
    })
    return { importances: { ...importances, begins: used.beginToken ?? false } }
  } finally {
    view.dispose()
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

const windowCount = 2
const windowLength = 256
const promptLength = 16
const greedyTokens = 8

/** A model's answers before it is saved: its perplexity on a few windows, and the tokens that it continues a prompt with. */
interface Expectation {
  readonly windows: Windows
  readonly perplexity: number
  readonly greedy: readonly number[]
}

/** Computes the answers of the model to save: on a text if the model has a tokenizer, else on fixed token ids. */
async function expectAnswers(view: ModelView, { model, plan, text }: SaveRequest): Promise<Expectation> {
  const length = Math.min(windowLength, model.spec.contextLength)
  const whole = await openTokenizer(model.path).catch(() => undefined)
  const tokenizer = (await openTrimmed(model, plan, whole))?.tokenizer ?? whole
  const ids = tokenizer?.encode(text) ?? Array.from({ length: windowCount * length }, (_, i) => (i * 7919) % view.spec.vocabulary)
  const windows = Array.from({ length: windowCount }, (_, i) => Int32Array.from(ids.slice(i * length, (i + 1) * length))).filter(
    (window) => window.length > promptLength,
  )
  return { windows, perplexity: (await perplexity(view, windows)).perplexity, greedy: await continueGreedily(view, windows) }
}

/** Opens the saved model under a memory budget and repeats the test. */
async function testReload(path: string, { windows, perplexity: expected, greedy }: Expectation, memoryBytes?: number): Promise<ReloadTest> {
  const model = await openModel(path, memoryBytes)
  try {
    const view = denseView(model)
    const found = await perplexity(view, windows)
    const answer = await continueGreedily(view, windows)
    return {
      tokens: found.tokens,
      perplexity: found.perplexity,
      expected,
      equalTokens: greedy.filter((token, i) => token === answer[i]).length,
      greedyTokens: greedy.length,
    }
  } finally {
    await model.close()
  }
}

async function continueGreedily(view: ModelView, windows: Windows): Promise<number[]> {
  const session = new DecodingSession(view)
  const found: number[] = []
  try {
    let next = windows[0]?.slice(0, promptLength) ?? new Int32Array()
    while (next.length > 0 && found.length < greedyTokens) {
      const [logits = new Float32Array()] = await session.feed(next, 1)
      found.push(likeliest(logits))
      next = Int32Array.of(found.at(-1) as number)
    }
  } finally {
    session.dispose()
  }
  return found
}

const likeliest = (logits: Float32Array): number => logits.reduce((best, value, id) => (value > (logits[best] as number) ? id : best), 0)
