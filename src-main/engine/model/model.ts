import { stat } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { basename, resolve } from 'node:path'
import { env } from 'node:process'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { EspalierError } from '#contract/errors.ts'
import { readSpec } from '#engine/architectures/index.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { deviceBytes } from '#engine/backend/active.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import { openCheckpoint } from '#engine/checkpoint/open-checkpoint.ts'
import { exists, readText } from '#engine/checkpoint/regular-file.ts'
import { underLimits } from '#engine/limits/reading.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { approximateBlocks } from './experts/approximate-experts.ts'
import { type ProductsFor, productsFor } from './precision.ts'
import { inFamilyWords, type PrunedLayout, prunedLayout, prunedLayoutFile } from './views/pruned-layout.ts'
import { slicedSpec } from './views/sliced-spec.ts'
import { leastBytes, WeightStore } from './weights/residency.ts'
import { Vocabulary } from './weights/vocabulary.ts'
import { checkTensors } from './weights/weights.ts'

/** An open model: read-only, shared by all views of it. */
export interface Model {
  readonly name: string
  readonly path: string
  /** The quick key of its files when it was opened. */
  readonly quickKey: string
  readonly checkpoint: Checkpoint
  readonly spec: DecoderSpec
  readonly store: WeightStore
  readonly vocabulary: Vocabulary
  /** Which products are used for what. */
  readonly products: ProductsFor
  /** What embedding and head leave of the budget, and the share of that for activations. */
  readonly freeBytes: number
  /** Its memory budget. What is opened beside it may take no more. */
  readonly memoryBytes: number
  readonly workspaceBytes: number
  /** What work on the model keeps for later work, by name. It is dropped with the model. */
  readonly kept: Map<string, Kept>
  close(): Promise<void>
}

interface Kept {
  dispose(): void
}

/** What is kept with a model under a name. Created on first use. */
export function keptWith<T extends Kept>({ kept }: Pick<Model, 'kept'>, name: string, make: () => T): T {
  const known = kept.get(name) ?? make()
  kept.set(name, known)
  return known as T
}

/** The same open model with other products. */
export const withProducts = (model: Model, products: ProductsFor): Model => ({ ...model, products })

/** The share of the budget for activations if weights have to be streamed. */
const workspaceShare = 0.25

interface OpenSpec {
  readonly checkpoint: Checkpoint
  readonly spec: DecoderSpec
  readonly pruned: PrunedLayout | undefined
}

/** Opens a checkpoint's config and tensors without reading weights. Throws a clear error for every kind of damage. */
export function openSpec(path: string): Promise<OpenSpec> {
  return underLimits(path, () => readWholeSpec(path))
}

async function readWholeSpec(path: string): Promise<OpenSpec> {
  const opened = await openCheckpoint(resolve(path))
  try {
    const pruned = await readPrunedLayout(opened.path)
    const checkpoint = inFamilyWords(opened, pruned)
    const layout = pruned?.blocks ?? checkpoint.blocks ?? approximateBlocks(checkpoint.config)
    const described = readSpec(checkpoint.config, layout, (name) => checkpoint.tensors.has(name))
    const spec = pruned?.plan.slice ? slicedSpec(described, pruned.plan.slice) : described
    checkTensors(checkpoint, spec)
    return { checkpoint, spec, pruned }
  } catch (error) {
    await opened.close()
    throw error
  }
}

async function readPrunedLayout(folder: string): Promise<PrunedLayout | undefined> {
  if (!(await stat(folder)).isDirectory()) return undefined
  const file = await resolveInside(folder, prunedLayoutFile)
  if (!(await exists(file))) return undefined
  const text = await readText(file)
  try {
    return prunedLayout.parse(JSON.parse(text))
  } catch {
    throw new EspalierError(
      'invalid',
      `${file} is damaged: it must describe the blocks of a model that Espalier saved. Save the model again.`,
    )
  }
}

/**
 * Opens a model. `memoryBytes` limits weights and activations (default: most of the device's memory). Weights beyond it are streamed from
 * disk.
 */
export async function openModel(path: string, memoryBytes = usualMemory()): Promise<Model> {
  exposeGarbageCollection()
  const quickKey = await quickKeyOf(path)
  const { checkpoint, spec } = await openSpec(path)
  try {
    const { vocabularyStays, left, storeBytes, workspaceBytes } = divideMemory(spec, memoryBytes, leastBytes(checkpoint, spec))
    const store = new WeightStore(checkpoint, spec, storeBytes)
    const vocabulary = await Vocabulary.open(checkpoint, spec, vocabularyStays)
    if (store.hasRoomToNarrow) vocabulary.offerNarrowHead(store.narrowRoom)
    const kept: Model['kept'] = new Map()
    if ((await quickKeyOf(path)) !== quickKey)
      throw new EspalierError('conflict', `The model at ${path} was written while it was opened. Retry when nothing writes there.`)
    return {
      name: basename(checkpoint.path),
      path: checkpoint.path,
      quickKey,
      checkpoint,
      spec,
      store,
      vocabulary,
      products: productsFor('float32'),
      freeBytes: left,
      memoryBytes,
      workspaceBytes,
      kept,
      async close() {
        for (const one of kept.values()) one.dispose()
        kept.clear()
        store.dispose()
        vocabulary.dispose()
        await checkpoint.close()
      },
    }
  } catch (error) {
    await checkpoint.close()
    throw error
  }
}

/**
 * Most of the memory for computing: on a GPU with its own memory, most of what was free, because products and the runtime need some too;
 * otherwise most of the machine's, which other programs use too, or of this process's share of it.
 */
export function usualMemory(): number {
  const free = deviceBytes()
  return Math.floor(free === undefined ? (Number(env.ESPALIER_MEMORY) || totalmem()) * 0.6 : free * 0.8)
}

/** The share of a memory budget for embedding and head. Larger ones are read in pieces. */
export const vocabularyShare = 0.4

/** Divides a memory budget among embeddings, weights, which need at least `least` bytes, and activations. */
export function divideMemory(
  spec: DecoderSpec,
  memoryBytes = usualMemory(),
  least = 0,
): { vocabularyStays: boolean; left: number; storeBytes: number; workspaceBytes: number } {
  const vocabularyBytes = Vocabulary.bytes(spec)
  const leaves = (memoryBytes - vocabularyBytes) * (1 - workspaceShare) >= least
  const vocabularyStays = leaves && vocabularyBytes <= memoryBytes * vocabularyShare
  const left = memoryBytes - (vocabularyStays ? vocabularyBytes : 0)
  const workspaceBytes = Math.floor(left * workspaceShare)
  return { vocabularyStays, left, storeBytes: left - workspaceBytes, workspaceBytes }
}

/** Throws if the model cannot even be streamed in this much memory. Reads headers only. */
export async function checkMemory(path: string, memoryBytes = usualMemory()): Promise<void> {
  const { checkpoint, spec } = await openSpec(path)
  try {
    new WeightStore(checkpoint, spec, divideMemory(spec, memoryBytes, leastBytes(checkpoint, spec)).storeBytes).dispose()
  } finally {
    await checkpoint.close()
  }
}

/** The runtime holds weights outside the heap that V8 watches, so streaming asks for a collection itself. */
function exposeGarbageCollection(): void {
  if (globalThis.gc) return
  setFlagsFromString('--expose-gc')
  globalThis.gc = runInNewContext('gc') as NodeJS.GCFunction
}
