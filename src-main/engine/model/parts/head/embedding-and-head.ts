import { gather, matMul, mul, slice, type Tensor1D, type Tensor2D, tensor1d, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { PackedMatrix } from '#engine/backend/bf16-ops.ts'
import type { Checkpoint, Rows } from '#engine/checkpoint/checkpoint.ts'
import type { FloatDtype } from '#engine/checkpoint/dtypes.ts'
import { blocksReader } from '#engine/model/weights/stored-blocks.ts'
import { normOf, roundTo } from '#engine/model/weights/unpack.ts'
import { readValues } from '#engine/model/weights/weights.ts'
import { capValues } from '#engine/tensor/activation.ts'
import { disposeNarrow, type NarrowRoom, offerNarrow } from '#engine/tensor/narrow.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import { matrixFor, type Products, packFor, project } from '#engine/tensor/products.ts'

/** Rows of the head, [rows, D], for consecutive tokens starting with `first`. */
export interface HeadChunk {
  readonly first: number
  readonly weight: Tensor2D
  readonly bias?: Tensor1D
  /** Logits x become cap * tanh(x / cap). */
  readonly cap?: number
}

/** The maximum number of rows of the head that are packed at a time. */
const packedRows = 8192

/** Rows of the head, packed for products of 16-bit operands. */
export type PackedHead = Pick<HeadChunk, 'bias' | 'cap'> & { readonly packed: PackedMatrix }

/** Packs rows of the head and disposes of them. */
function packRows(rows: Tensor2D, products: Exclude<Products, 'float32'>): PackedMatrix {
  const packed = packFor(rows, products)
  rows.dispose()
  return packed
}

/** Computes the logits of hidden states [N, D] over the rows of a chunk: [N, rows]. */
export function headLogits(hidden: Tensor2D, { weight, bias, cap }: HeadChunk, products: Products = 'float32'): Tensor2D {
  return tidy(() => capValues(project(hidden, matrixFor(weight, products), bias), cap))
}

type Owned = 'finalNorm' | 'embedding' | 'head'

interface VocabularyParts {
  readonly finalNorm: NormWeights
  readonly embedding: Tensor2D | undefined
  readonly head: HeadChunk | undefined
  readonly chunkRows: number
  readonly rotation?: EmbeddingRotation
  /** The tensors that belong to this vocabulary and not to another one. Default: all. */
  readonly owned?: readonly Owned[]
  /** The rows of the checkpoint that it has, if these are not all. `embedding` still has all of them, `head` only these. */
  readonly kept?: Int32Array | undefined
}

/** The rotation of embeddings, [D, d], which is read on first use, and the dtype to which rotated embeddings are rounded. */
interface EmbeddingRotation {
  read(): Promise<Tensor2D>
  readonly dtype: FloatDtype
}

const capOf = ({ logitCap }: DecoderSpec): { cap?: number } => (logitCap === undefined ? {} : { cap: logitCap })

/** Multiplies rows by a scale and replaces them. */
function scaleRows(rows: Tensor2D, scale: number | undefined): Tensor2D {
  if (scale === undefined) return rows
  const scaled = mul<Tensor2D>(rows, scale)
  rows.dispose()
  return scaled
}

/** Roundings of one matrix to 2 and 8 bits are more alike than this cosine; two trained matrices are nowhere near. */
const leastLikeness = 0.8

/**
 * Everything outside the block stack: embedding, final norm and head. Embedding and head are either in memory or read from disk in rows.
 */
export class Vocabulary {
  readonly finalNorm: NormWeights
  readonly chunkRows: number
  readonly #checkpoint: Checkpoint
  readonly #spec: DecoderSpec
  readonly #embedding: Tensor2D | undefined
  readonly #head: HeadChunk | undefined
  readonly #rotation: EmbeddingRotation | undefined
  readonly #owned: readonly Owned[]
  readonly #kept: Int32Array | undefined
  #rotationMatrix: Promise<Tensor2D> | undefined

  private constructor(checkpoint: Checkpoint, spec: DecoderSpec, parts: VocabularyParts) {
    this.#checkpoint = checkpoint
    this.#spec = spec
    this.#rotation = parts.rotation
    this.#owned = parts.owned ?? ['finalNorm', 'embedding', 'head']
    this.#kept = parts.kept
    this.finalNorm = parts.finalNorm
    this.#embedding = parts.embedding
    this.#head = parts.head
    this.chunkRows = parts.chunkRows
  }

  /** The number of tokens in the vocabulary. */
  get size(): number {
    return this.#spec.vocabulary
  }

  /** Whether all rows of the head are in one chunk. */
  get inOneChunk(): boolean {
    return this.#head !== undefined || this.chunkRows >= this.#storedRows
  }

  /** How many rows are read from disk, whether or not all of them are kept. */
  get #storedRows(): number {
    return this.#kept ? (this.#kept.at(-1) ?? 0) + 1 : this.#spec.vocabulary
  }

  /** Whether logits are capped, so that they are not a linear function of hidden states. */
  get capped(): boolean {
    return this.#spec.logitCap !== undefined
  }

  /** Bytes of embedding and head as float32. A tied head counts once. */
  static bytes(spec: DecoderSpec): number {
    const matrices = spec.head.weight === spec.embedding ? 1 : 2
    return 4 * spec.vocabulary * ((spec.sliceWidth ?? spec.hidden) + (matrices - 1) * spec.hidden)
  }

  /** The number of parameters outside the block stack, including the final norm. */
  static parameters(spec: DecoderSpec): number {
    const biases = (spec.finalNorm.bias ? spec.hidden : 0) + (spec.head.bias ? spec.vocabulary : 0)
    return Vocabulary.bytes(spec) / 4 + spec.hidden + biases
  }

  /**
   * The same, but a head that repeats the embedding counts once, as in a model whose head is tied. GGUF files of such models often store the
   * matrix twice, rounded differently, so a few rows decide.
   */
  static async distinctParameters(checkpoint: Checkpoint, spec: DecoderSpec): Promise<number> {
    const all = Vocabulary.parameters(spec)
    const isSeparate = spec.head.weight !== spec.embedding && spec.sliceWidth === undefined
    if (!isSeparate || !checkpoint.path.endsWith('.gguf')) return all
    const [rows = 0] = checkpoint.tensors.get(spec.embedding)?.shape ?? []
    let [product, own, other] = [0, 0, 0]
    for (const share of [0.25, 0.5, 0.75]) {
      const range = { first: Math.floor(share * rows), count: 1 }
      const [embedded, head] = [await readValues(checkpoint, spec.embedding, range), await readValues(checkpoint, spec.head.weight, range)]
      for (const [column, value] of embedded.entries()) {
        product += value * (head[column] ?? 0)
        own += value ** 2
        other += (head[column] ?? 0) ** 2
      }
    }
    return product > leastLikeness * Math.sqrt(own * other) ? all - spec.vocabulary * spec.hidden : all
  }

  /** Reads the final norm, and with `resident` also embedding and head. */
  static async open(checkpoint: Checkpoint, spec: DecoderSpec, resident: boolean): Promise<Vocabulary> {
    const vector = async (name: string) => tensor1d(await readValues(checkpoint, name))
    const matrix = async (name: string, width: number) => tensor2d(await readValues(checkpoint, name), [spec.vocabulary, width])
    const normBias = spec.finalNorm.bias ? await vector(spec.finalNorm.bias) : undefined
    const finalNorm = normOf(spec.norm, await vector(spec.finalNorm.weight), normBias, spec.logitScale)
    const embedding = resident ? await matrix(spec.embedding, spec.sliceWidth ?? spec.hidden) : undefined
    const tied = spec.head.weight === spec.embedding
    const weight = resident ? (tied ? embedding : await matrix(spec.head.weight, spec.hidden)) : undefined
    const head = weight && { first: 0, weight, ...capOf(spec), ...(spec.head.bias ? { bias: await vector(spec.head.bias) } : {}) }
    const chunkRows = Math.min(spec.vocabulary, Math.max(1, Math.floor(2 ** 24 / spec.hidden)))
    return new Vocabulary(checkpoint, spec, { finalNorm, embedding, head, chunkRows: resident ? spec.vocabulary : chunkRows })
  }

  /** Looks up the embeddings of token ids: [ids, D], or [ids, d] with a rotation. Throws for an id outside the vocabulary. */
  async embed(ids: Int32Array): Promise<Tensor2D> {
    const rows = await this.#rows(ids)
    const scaled = scaleRows(rows, this.#spec.embeddingScale)
    if (!this.#rotation) return scaled
    this.#rotationMatrix ??= this.#rotation.read()
    const exact = matMul<Tensor2D>(scaled, await this.#rotationMatrix)
    const rotated = roundTo(exact, this.#rotation.dtype)
    exact.dispose()
    scaled.dispose()
    return rotated
  }

  async #rows(ids: Int32Array): Promise<Tensor2D> {
    const bad = ids.find((id) => id < 0 || id >= this.#spec.vocabulary)
    if (bad !== undefined) {
      throw new EspalierError(
        'invalid',
        `Token id ${bad} is outside the vocabulary of ${this.#spec.vocabulary} tokens. The text was encoded for another model, or the tokenizer does not belong to this one.`,
      )
    }
    const stored = this.#kept ? ids.map((id) => this.#kept?.[id] ?? id) : ids
    if (this.#embedding) {
      const indices = tensor1d(stored, 'int32')
      const rows = gather(this.#embedding, indices)
      indices.dispose()
      return rows
    }
    const hidden = this.#spec.sliceWidth ?? this.#spec.hidden
    const unique = [...new Set(stored)]
    const read = new Map(
      await Promise.all(
        unique.map(async (id) => [id, await readValues(this.#checkpoint, this.#spec.embedding, { first: id, count: 1 })] as const),
      ),
    )
    const values = new Float32Array(stored.length * hidden)
    stored.forEach((id, row) => {
      values.set(read.get(id) as Float32Array, row * hidden)
    })
    return tensor2d(values, [stored.length, hidden])
  }

  /**
   * Calls `use` with chunks of the head of at most `chunkRows` rows. Unless the head is resident, each chunk is disposed of after `use`.
   */
  async forEachHeadChunk(use: (chunk: HeadChunk) => void | Promise<void>): Promise<void> {
    if (this.#head) {
      await use(this.#head)
      return
    }
    const { hidden, head } = this.#spec
    const kept = this.#kept
    const stored = this.#storedRows
    let first = 0
    for (let row = 0; row < stored; row += this.chunkRows) {
      const rows = { first: row, count: Math.min(this.chunkRows, stored - row) }
      const own = kept && rowsWithin(kept, rows)
      const count = own?.length ?? rows.count
      if (count === 0) continue
      const read = async (name: string, columns: number) => selectRows(await readValues(this.#checkpoint, name, rows), columns, own)
      const weight = tensor2d(await read(head.weight, hidden), [count, hidden])
      const bias = head.bias ? tensor1d(await read(head.bias, 1)) : undefined
      try {
        await use({ first, weight, ...capOf(this.#spec), ...(bias ? { bias } : {}) })
      } finally {
        weight.dispose()
        bias?.dispose()
      }
      first += count
    }
  }

  /** Packs a chunk of the head for products of 16-bit operands, and calls `use` with one packed slice at a time, to save memory. */
  async usePacked(
    { weight, bias, cap }: HeadChunk,
    products: Exclude<Products, 'float32'>,
    use: (slice: PackedHead) => Promise<void>,
  ): Promise<void> {
    const rows = weight.shape[0]
    for (let first = 0; first < rows; first += packedRows) {
      const count = Math.min(packedRows, rows - first)
      const packed = packRows(slice(weight, [first, 0], [count, -1]), products)
      const ownBias: Tensor1D | undefined = bias && slice(bias, [first], [count])
      try {
        await use({ packed, ...(ownBias ? { bias: ownBias } : {}), ...(cap === undefined ? {} : { cap }) })
      } finally {
        packed.values.dispose()
        ownBias?.dispose()
      }
    }
  }

  /** Returns this vocabulary with rotated embeddings and another final norm. The result owns only the rotation. */
  rotated(rotation: EmbeddingRotation, finalNorm: NormWeights): Vocabulary {
    return this.#with({ finalNorm, rotation })
  }

  /** Returns this vocabulary with another final norm. The result owns only that norm. */
  withFinalNorm(finalNorm: NormWeights): Vocabulary {
    return this.#with({ finalNorm, owned: ['finalNorm'] })
  }

  /**
   * Returns this vocabulary with only some of its rows, in ascending order, and with another final norm if one is given. The result owns its
   * part of the head, and the norm that it was given.
   */
  keeping(rows: readonly number[], finalNorm?: NormWeights): Vocabulary {
    const kept = Int32Array.from(rows)
    const head = this.#head && gatherHead(this.#head, kept)
    const spec = { ...this.#spec, vocabulary: kept.length }
    const { chunkRows } = this
    return new Vocabulary(this.#checkpoint, spec, {
      finalNorm: finalNorm ?? this.finalNorm,
      embedding: this.#embedding,
      head,
      chunkRows: head ? kept.length : chunkRows,
      kept,
      owned: ['head', ...(finalNorm ? (['finalNorm'] as const) : [])],
    })
  }

  #with(changed: Pick<VocabularyParts, 'finalNorm' | 'rotation' | 'owned'>): Vocabulary {
    const shared = { embedding: this.#embedding, head: this.#head, chunkRows: this.chunkRows, kept: this.#kept }
    return new Vocabulary(this.#checkpoint, this.#spec, { ...shared, ...changed })
  }

  /** Lets the head get a smaller copy for products with few rows, if it is in memory. */
  offerNarrowHead(room: NarrowRoom): void {
    if (!this.#head) return
    const read = blocksReader(this.#checkpoint, [{ weight: this.#spec.head.weight, firstRow: 0, rows: this.#spec.vocabulary }])
    offerNarrow(this.#head, room, read && new Map([[this.#head.weight, read]]))
  }

  dispose(): void {
    if (this.#rotation) {
      this.#rotationMatrix?.then((matrix) => matrix.dispose()).catch(() => undefined)
      return
    }
    if (this.#owned.includes('head')) {
      if (this.#head) disposeNarrow(this.#head)
      this.#head?.weight.dispose()
      this.#head?.bias?.dispose()
    }
    if (this.#owned.includes('embedding')) this.#embedding?.dispose()
    if (!this.#owned.includes('finalNorm')) return
    this.finalNorm.weight?.dispose()
    this.finalNorm.bias?.dispose()
  }
}

function gatherHead({ weight, bias, ...rest }: HeadChunk, kept: Int32Array): HeadChunk {
  return tidy(() => {
    const rows = tensor1d(kept, 'int32')
    return { ...rest, weight: gather(weight, rows), ...(bias ? { bias: gather(bias, rows) } : {}) } as never
  }) as unknown as HeadChunk
}

/** Places of the kept rows within a range of stored rows. */
function rowsWithin(kept: Int32Array, { first, count }: Rows): number[] {
  return [...kept.filter((row) => row >= first && row < first + count)].map((row) => row - first)
}

function selectRows(values: Float32Array, columns: number, rows: readonly number[] | undefined): Float32Array {
  if (!rows) return values
  const selected = new Float32Array(rows.length * columns)
  for (const [place, row] of rows.entries()) selected.set(values.subarray(row * columns, (row + 1) * columns), place * columns)
  return selected
}
