import { stat } from 'node:fs/promises'
import type { DataRequest } from '#contract/data/data-request.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { PhaseWork } from '#contract/runs/time/estimate.ts'
import { selfWritten } from '#contract/titles.ts'
import { activeParameters } from '#engine/architectures/count-parameters.ts'
import { type DecoderSpec, takesBf16 } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { isBundledId, locateBundled } from '#engine/data/bundled.ts'
import { countingTokens } from '#engine/data/count-tokens.ts'
import { isDatasetId } from '#engine/data/named.ts'
import { type DataSources, locate, readData } from '#engine/data/read-data.ts'
import { openSource } from '#engine/data/source.ts'
import { rowsPerCall as rowsOfPasses } from '#engine/model/forward.ts'
import { productsOnUnits } from '#engine/model/precision.ts'
import { type MethodPhase, stackPasses } from '#engine/pruning/method.ts'
import type { Products } from '#engine/tensor/products.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { operationsOf } from './operations.ts'

export const billion = 1e9
/** Seconds to encode a token. */
const encoding = 4e-6
/** Seconds to count the tokens of a byte of text. */
const countingByte = 2.5e-7
const bytesPerToken = 4

/** A recovery trains with bfloat16 products, whatever the precision of its run. */
export const trainingProducts: PhaseWork['faster'] = [{ products: 'bfloat16', share: 1 }]

export const noWork = { attention: 0, mlp: 0, head: 0, double: 0, vectors: 0, solved: 0, calls: 0, decoded: 0, stored: 0, seconds: 0 }

const storesBrainFloats = ({ checkpoint }: WorkModel): boolean =>
  [...checkpoint.tensors.values()].every(({ dtype, shape }) => dtype === 'BF16' || shape.length < 2)

/** Turns the passes of a phase into operations of this model, in the products of the request's precision. */
export class PhaseCounts {
  readonly model: WorkModel
  readonly request: RunRequest
  /** The share of the block stack's work that remains after pruning. It stays 1 until the caller knows the plan's size. */
  left = 1

  readonly #signal: AbortSignal | undefined

  constructor(model: WorkModel, request: RunRequest, signal: AbortSignal | undefined) {
    this.model = model
    this.request = request
    this.#signal = signal
  }

  /** The number of windows that a text gives, and their tokens. */
  count(data: DataRequest) {
    return countWindows(this.model, data, {
      localFolder: this.request.localFolder,
      ...(this.#signal ? { report: { signal: this.#signal } } : {}),
    })
  }

  /** The work of one phase with windows of `tokens`. `calls` counts calls of a part: up to `rowsPerCall` rows share one. */
  timed(
    {
      phase,
      passes,
      float64Operations,
      eigenvectorOperations = 0,
      equationOperations,
      choosing,
      shared,
      rowsPerCall = rowsOfPasses,
      longest,
    }: MethodPhase,
    part: string,
    tokens: number,
  ): PhaseWork {
    const passed = Math.min(tokens, longest ?? tokens)
    const operations = operationsOf(this.model.spec, passed)
    const windowsPerCall = Math.max(1, Math.floor(rowsPerCall / passed))
    const { times, faster } = this.productsOf(choosing)
    return {
      ...noWork,
      phase,
      part,
      attention: (times * passes.attention * operations.attention) / billion,
      mlp: (times * passes.mlp * operations.mlp) / billion,
      head: (times * passes.head * operations.head) / billion,
      double: (float64Operations?.(tokens) ?? 0) / billion,
      vectors: eigenvectorOperations / billion,
      solved: (equationOperations?.(tokens) ?? 0) / billion,
      calls: (times * (passes.attention + passes.mlp + passes.head)) / windowsPerCall,
      ...(faster ? { faster } : {}),
      ...(shared === undefined ? {} : { shared }),
    }
  }

  /**
   * How often a phase does its operations, and the shares of them that use faster products than float32's. A search that rescores some
   * candidates does part of its operations again.
   */
  productsOf(choosing: MethodPhase['choosing']): { times: number; faster?: PhaseWork['faster'] } {
    const { precision = 'float32' } = this.request
    const wanted = precision === 'auto' ? 'mixed' : precision
    // Assumes matrix units. A machine without them has rates that make all products as fast as float32's, so the estimate still holds.
    const { passes, ranking, rescoring, deciding } = productsOnUnits(takesBf16(this.model.spec) ? wanted : 'float32')
    if (choosing === undefined) return { times: 1, ...this.#sharesOf([passes, 1]) }
    if (choosing === 'exactly' || ranking === deciding) return { times: 1, ...this.#sharesOf([deciding, 1]) }
    const times = 1 + choosing.again
    return { times, ...this.#sharesOf([ranking, 1 / times], [rescoring, choosing.again / times]) }
  }

  /** The shares as `faster` entries, without those that run at the speed of float32 on every machine. */
  #sharesOf(...shares: readonly (readonly [Products, number])[]): { faster?: PhaseWork['faster'] } {
    const nameOf = (products: Exclude<Products, 'float32'>): Exclude<Products, 'float32'> | 'auto' =>
      products === 'bfloat16' && this.request.precision === 'auto' ? 'auto' : products
    // `thirds` are faster only for weights that bfloat16 holds exactly; others are computed in float32.
    const hasThirds = takesBf16(this.model.spec) && storesBrainFloats(this.model)
    const asFloat32: readonly Products[] = hasThirds ? ['float32'] : ['float32', 'thirds']
    const faster = shares.flatMap(([products, share]) =>
      asFloat32.includes(products) ? [] : [{ products: nameOf(products as Exclude<Products, 'float32'>), share }],
    )
    return faster.length > 0 ? { faster } : {}
  }

  /** The phase that encodes a text of this many tokens. */
  readingOf(tokens: number): PhaseWork {
    return { ...noWork, phase: 'Reading text', part: 'reading text', seconds: tokens * encoding }
  }

  /** The phase that counts the tokens of all of a text. */
  async countingOf({ source, mix = [{ source, share: 1 }] }: DataRequest): Promise<PhaseWork> {
    let bytes = 0
    for (const part of mix) bytes += await bytesOf(part.source, this.request.localFolder)
    return { ...noWork, phase: countingTokens, part: 'reading text', seconds: bytes * countingByte }
  }

  /** Passes of windows through all blocks and the head. */
  wholePasses(windows: number, left = this.left) {
    return stackPasses(this.model.spec.blocks.length * left, windows, windows)
  }

  /**
   * Adds the generation of text to a phase: `tokens` steps, each of one token for every sequence. `decoded` is in gigabytes of weights
   * read. A step reads the weights once for all sequences, so each further sequence is assumed to cost a quarter of the first.
   */
  decoding(phase: PhaseWork, tokens: number, sequences: number, left = this.left): PhaseWork {
    const { spec } = this.model
    const gigabytes = (4 * (left * activeParameters(spec).active + spec.vocabulary * spec.hidden)) / billion
    return { ...phase, decoded: tokens * gigabytes * (1 + (sequences - 1) / 4) }
  }

  /** The products of passes that need few digits, such as those that measure importances. */
  rankingProducts(): PhaseWork['faster'] {
    const { precision = 'float32' } = this.request
    return precision === 'float32' ? [] : this.#sharesOf(['bfloat16', 1]).faster
  }
}

/** The parts of a model that an estimate depends on. */
export interface WorkModel {
  readonly path: string
  readonly spec: DecoderSpec
  readonly checkpoint: Pick<Checkpoint, 'tensors' | 'quantised'>
  readonly tokenizer: Tokenizer | undefined
}

/** Approximate token counts of the named data sets, with a vocabulary of tens of thousands. */
const publishedTokens = { wikitext2: 300_000, 'c4-train': 480_000, 'c4-val': 520_000, 'fineweb-edu': 520_000 }

/** The bytes of a text's files. */
async function bytesOf(source: string, localFolder: string | undefined): Promise<number> {
  if (isDatasetId(source) && localFolder === undefined) return bytesPerToken * publishedTokens[source]
  const { path } = await locate(source, { localFolder })
  const found = await openSource(path)
  const files = found.kind === 'documents' ? found.files : [path]
  return (await Promise.all(files.map((file) => stat(file)))).reduce((sum, { size }) => sum + size, 0)
}

/** Counting stops at this many tokens. */
const mostTokens = 2 ** 21

/** Window counts of earlier calls, and how many windows were wanted, by model, file and window length. */
const counts = new Map<string, { windows: number; cap: number }>()

/** The number of windows that a text gives, and the tokens of each window. */
async function countWindows(
  model: WorkModel,
  { source, mix, split, sequenceLength, windows = Number.POSITIVE_INFINITY }: DataRequest,
  sources: DataSources,
): Promise<{ windows: number; tokens: number }> {
  let available = 0
  for (const part of mix ?? [{ source, split }]) available += await windowsOf(model, { ...part, sequenceLength, windows }, sources)
  return { windows: Math.max(1, Math.min(available, windows)), tokens: sequenceLength }
}

async function windowsOf(
  { path: modelPath, spec, tokenizer }: WorkModel,
  { source, split, sequenceLength, windows: most }: Pick<DataRequest, 'source' | 'split' | 'sequenceLength'> & { windows: number },
  sources: DataSources,
): Promise<number> {
  const { localFolder } = sources
  if (source === selfWritten) return most
  if (isDatasetId(source) && localFolder === undefined) return Math.ceil(publishedTokens[source] / sequenceLength)
  const path = isBundledId(source) ? locateBundled(source) : source
  const found = await stat(path).catch(() => undefined)
  const cap = Math.min(most, Math.ceil(mostTokens / sequenceLength))
  const key = `${modelPath} ${path} ${found?.size} ${found?.mtimeMs} ${sequenceLength} ${localFolder} ${split?.part} ${split?.seed}`
  const known = counts.get(key)
  // A text that gave fewer windows than were wanted has no more.
  if (known && (known.windows < known.cap || cap <= known.cap)) return Math.min(known.windows, cap)
  const { windows } = await readData({ spec }, tokenizer, { source, sequenceLength, windows: cap, ...(split ? { split } : {}) }, 0, sources)
  counts.set(key, { windows: windows.length, cap })
  for (const old of counts.keys()) if (counts.size > 200) counts.delete(old)
  return windows.length
}
