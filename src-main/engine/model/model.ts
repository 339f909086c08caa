import { stat } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { readSpec } from '#engine/architectures/index.ts'
import type { BlockLayout, DecoderSpec } from '#engine/architectures/spec.ts'
import { deviceBytes } from '#engine/backend/active.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import { openCheckpoint } from '#engine/checkpoint/open-checkpoint.ts'
import { exists, readText } from '#engine/checkpoint/regular-file.ts'
import { underLimits } from '#engine/limits/reading.ts'
import { machineBudget } from '#runtime/machine-memory.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { Vocabulary } from './parts/head/embedding-and-head.ts'
import { type ProductsFor, productsFor } from './precision.ts'
import { inFamilyWords, type PrunedLayout, prunedLayout, prunedLayoutFile } from './views/pruned-layout.ts'
import { slicedSpec } from './views/slice.ts'
import { leastBytes, WeightStore } from './weights/residency.ts'
import { checkTensors } from './weights/weights.ts'

/** An open model. It is read-only, and all views of it share it. */
export interface Model {
  readonly name: string
  readonly path: string
  /** The quick key of the model's files when it was opened. */
  readonly quickKey: string
  readonly checkpoint: Checkpoint
  readonly spec: DecoderSpec
  readonly store: WeightStore
  readonly vocabulary: Vocabulary
  /** Which kind of products is used for which purpose. */
  readonly products: ProductsFor
  /** The part of the memory budget that is left after embedding and head, if these stay in memory. */
  readonly freeBytes: number
  /** The memory budget of this model. Models opened beside it must not take more. */
  readonly memoryBytes: number
  /** The share of `freeBytes` for activations. */
  readonly workspaceBytes: number
  /** What one task keeps for later tasks on the same model, by name. It is disposed of with the model. */
  readonly kept: Map<string, Kept>
  close(): Promise<void>
}

interface Kept {
  dispose(): void
}

/** Returns what is kept with a model under a name, and creates it on first use. */
export function keptWith<T extends Kept>({ kept }: Pick<Model, 'kept'>, name: string, make: () => T): T {
  const known = kept.get(name) ?? make()
  kept.set(name, known)
  return known as T
}

/** Returns the same open model with other kinds of products. */
export const withProducts = (model: Model, products: ProductsFor): Model => ({ ...model, products })

/** The share of the memory left after embedding and head that is reserved for activations. */
const workspaceShare = 0.25

interface OpenSpec {
  readonly checkpoint: Checkpoint
  readonly spec: DecoderSpec
  readonly pruned: PrunedLayout | undefined
}

/** Opens a checkpoint and describes its model without reading weights. Throws an error that names the defect if anything is damaged. */
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
 * Opens a model. `memoryBytes` limits the memory for weights and activations; by default, it is most of the device's memory. Weights that
 * do not fit are streamed from disk.
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
      throw new EspalierError('conflict', `The model at ${path} changed while it was being opened. Retry when no program is writing there.`)
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
 * The default memory budget. On a GPU with its own memory, it is 80 % of what was free, because products and the runtime need some too.
 * Otherwise it is that of the machine.
 */
export function usualMemory(): number {
  const free = deviceBytes()
  return free === undefined ? machineBudget() : Math.floor(free * 0.8)
}

/** Embedding and head stay in memory only up to this share of the budget. Larger ones are read in pieces. */
export const vocabularyShare = 0.4

/** Divides a memory budget among embedding and head, other weights, which need at least `least` bytes, and activations. */
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

/** Throws if this much memory is not enough even for streaming the model. Reads nothing. */
export function checkMemory({ checkpoint, spec }: Pick<OpenSpec, 'checkpoint' | 'spec'>, memoryBytes = usualMemory()): void {
  new WeightStore(checkpoint, spec, divideMemory(spec, memoryBytes, leastBytes(checkpoint, spec)).storeBytes).dispose()
}

/**
 * Makes `gc` available. Weights are outside V8's heap, so V8 does not notice how much could be freed, and streaming must request
 * collections.
 */
function exposeGarbageCollection(): void {
  if (globalThis.gc) return
  setFlagsFromString('--expose-gc')
  globalThis.gc = runInNewContext('gc') as NodeJS.GCFunction
}

const lists = z.record(z.string().regex(/^(0|[1-9]\d*)$/), z.array(z.number().int().nonnegative()))

/**
 * Returns the blocks of a model whose config lists experts that are constant vectors, as vLLM's expert substitution writes it. Returns
 * undefined if the config has no such list.
 */
function approximateBlocks(config: Readonly<Record<string, unknown>>): BlockLayout[] | undefined {
  const given = (config.text_config as Record<string, unknown> | undefined)?.approximate_experts ?? config.approximate_experts
  if (given === undefined) return undefined
  const read = lists.safeParse(given)
  if (!read.success)
    throw new EspalierError('invalid', 'config.json: "approximate_experts" must list numbers of experts by block, such as {"1": [0, 3]}.')
  const { blocks } = readSpec({ ...config })
  const unknown = Object.keys(read.data).find((block) => blocks[Number(block)]?.experts === undefined)
  if (unknown !== undefined)
    throw new EspalierError('invalid', `config.json: "approximate_experts" names block ${unknown}, which is not a mixture in this model.`)
  return blocks.map((block, index) => {
    const listed = read.data[index]
    if (!listed?.length) return block
    const experts = block.experts ?? 0
    const constants = [...new Set(listed)].sort((one, other) => one - other)
    if (constants.length < listed.length || constants.some((expert) => expert >= experts) || constants.length === experts)
      throw new EspalierError(
        'invalid',
        `config.json: "approximate_experts" lists ${listed.join(', ')} in block ${index}. List numbers below ${experts}, each once, and not all of them.`,
      )
    return { ...block, constants }
  })
}
