import { EspalierError } from '#contract/errors.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { countFreed } from '#engine/checkpoint/aligned-buffer.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { type NarrowRoom, offerNarrow } from '#engine/tensor/narrow.ts'
import { Vocabulary } from '../parts/head/embedding-and-head.ts'
import { storedBlocks } from './stored-blocks.ts'
import { disposePart, rowFactors, unpackExpert, unpackPart } from './unpack.ts'
import {
  checkValues,
  disposePacked,
  dividePart,
  entriesSize,
  type NamedEntries,
  type PackedPart,
  type Part,
  type PartWeights,
  partNames,
  partSize,
  presentParts,
  readEntries,
  type UnreadExpert,
} from './weights.ts'

/** A unit of reading: a part, or one expert of a part. */
type Piece = `${number}` | `${Part}.${number}`

/**
 * Where weights are while they are not leased: in memory as float32, in memory as stored (16-bit weights take half the size), or on disk.
 */
type Residency = 'resident' | 'packed' | 'streamed'

/** The minimum memory for weights with which a model can be computed: two of its largest parts. */
export function leastBytes(checkpoint: Checkpoint, spec: DecoderSpec): number {
  return 2 * presentParts(spec).reduce((largest, part) => Math.max(largest, partSize(checkpoint, spec, part).byExpert), 0)
}

/** The average number of bytes that the checkpoint stores a parameter in. */
export function storedBytesPerParameter({
  checkpoint,
  spec,
}: {
  readonly checkpoint: Pick<Checkpoint, 'tensors' | 'quantised'>
  readonly spec: DecoderSpec
}): number {
  const bytes = checkpoint.quantised?.bytes ?? [...checkpoint.tensors.values()].reduce((sum, tensor) => sum + tensor.bytes, 0)
  return bytes / (stackParameters(spec) + Vocabulary.parameters(spec))
}

/**
 * Keeps the weights of a model's parts under a memory budget. If all fit as float32, all stay in memory as float32. Otherwise as many of
 * the first parts as fit stay as float32. The others stay in memory as stored and are unpacked when leased, if all fit this way. If not,
 * they are read from disk each time, the next part while the current one computes. Mixtures that do not stay as float32 are unpacked, or
 * read, expert by expert.
 */
export class WeightStore {
  readonly residency: Residency
  /** Whether there is room for copies of all weights in 16 bits or fewer, besides those in float32. */
  readonly hasRoomToNarrow: boolean
  /** The memory left for such copies, for the model and all its views together. */
  readonly narrowRoom: NarrowRoom
  /** How many seconds the computation has waited for weights to be read. */
  secondsWaiting = 0
  readonly #checkpoint: Checkpoint
  readonly #spec: DecoderSpec
  /** The parts that stay in memory as float32. */
  readonly #keptAsFloat32 = new Set<Part>()
  readonly #resident = new Map<Part, PartWeights>()
  /** By part, how many leases of its resident weights are open. */
  readonly #leases = new Map<Part, number>()
  readonly #packed = new Map<Piece, PackedPart>()
  /** Pieces whose values were checked to be finite. */
  readonly #checked = new Set<Piece>()
  readonly #reading = new Map<Piece, Promise<PackedPart>>()
  readonly #divided = new Map<Part, ReturnType<typeof dividePart>>()

  /** `budgetBytes` is the memory for all parts, including, as float32, the part in use and the part that is being read. */
  constructor(checkpoint: Checkpoint, spec: DecoderSpec, budgetBytes: number) {
    this.#checkpoint = checkpoint
    this.#spec = spec
    const sizes = presentParts(spec).map((part) => ({ part, ...partSize(checkpoint, spec, part) }))
    const total = sizes.reduce((sum, size) => sum + size.float32, 0)
    const stored = sizes.reduce((sum, size) => sum + size.stored, 0)
    const largest = sizes.reduce((maximum, size) => Math.max(maximum, size.byExpert), 0)
    this.residency = total <= budgetBytes ? 'resident' : stored < total && stored + 2 * largest <= budgetBytes ? 'packed' : 'streamed'
    // Copies take half of what float32 takes. The float32 vocabulary is not in this budget, but its copy is.
    this.hasRoomToNarrow = total * 1.5 + Vocabulary.bytes(spec) / 2 <= budgetBytes
    this.narrowRoom = { bytes: budgetBytes - total }
    let freeBytes = this.residency === 'resident' ? total : budgetBytes - 2 * largest
    if (freeBytes < 0) {
      const mebibytes = (bytes: number) => Math.ceil(bytes / 2 ** 20)
      throw new EspalierError(
        'out-of-memory',
        `A memory budget of ${mebibytes(budgetBytes)} MiB for weights is too small: the largest submodule takes ${mebibytes(largest)} MiB${spec.router ? ' (of a mixture, two experts at a time)' : ''} and two must fit. Give more memory: weights need at least ${mebibytes(2 * largest)} MiB.`,
      )
    }
    if (this.residency === 'packed') freeBytes -= stored
    for (const size of sizes) {
      const more = this.residency === 'packed' ? size.float32 - size.stored : size.float32
      if (freeBytes < more) break
      freeBytes -= more
      this.#keptAsFloat32.add(size.part)
    }
  }

  /** Whether some weights are in memory as float32 only while they are leased. */
  get streams(): boolean {
    return this.residency !== 'resident'
  }

  /** Leases the weights of a part until `release`. Starts to read `next` if it is not in memory. */
  async lease(part: Part, next?: Part): Promise<PartWeights> {
    const weights = this.#resident.get(part) ?? this.#settle(part, await this.#load(part))
    if (this.#resident.get(part) === weights) this.#leases.set(part, (this.#leases.get(part) ?? 0) + 1)
    if (next !== undefined && next !== part && !this.#resident.has(next)) this.#readAhead(`${next}`, this.#divide(next).around)
    return weights
  }

  /** Keeps loaded weights if their part stays in memory, unless a concurrent lease has already done so. Returns the weights to use. */
  #settle(part: Part, loaded: PartWeights): PartWeights {
    const resident = this.#resident.get(part)
    if (resident) this.#disposeLoaded(part, loaded)
    else if (this.#keptAsFloat32.has(part)) {
      this.#resident.set(part, loaded)
      if (this.hasRoomToNarrow) {
        const blocks = storedBlocks({ checkpoint: this.#checkpoint, spec: this.#spec }, part, loaded)
        offerNarrow(loaded, this.narrowRoom, blocks, rowFactors(this.#spec, loaded))
      }
    }
    return resident ?? loaded
  }

  /** Releases leased weights, or weights that were made from them. */
  release(part: Part, weights: PartWeights): void {
    if (this.#resident.get(part) === weights) this.#leases.set(part, (this.#leases.get(part) ?? 1) - 1)
    else this.#disposeLoaded(part, weights)
  }

  /**
   * Releases leased weights of which the caller has made copies. Resident weights without another lease are freed, so that weights and
   * copies are not both in memory. They are read again when needed.
   */
  releaseCopied(part: Part, weights: PartWeights): void {
    this.release(part, weights)
    this.#drop(part, weights)
  }

  #drop(part: Part, weights: PartWeights): void {
    if (this.#resident.get(part) !== weights || (this.#leases.get(part) ?? 0) > 0) return
    this.#resident.delete(part)
    this.#disposeLoaded(part, weights)
  }

  /** Frees all weights that are not leased. They are read again when needed. */
  empty(): void {
    for (const [part, weights] of [...this.#resident]) this.#drop(part, weights)
    for (const packed of this.#packed.values()) disposePacked(packed)
    this.#packed.clear()
  }

  #disposeLoaded(part: Part, weights: PartWeights): void {
    disposePart(weights)
    this.#countFreed(this.#divide(part).around)
  }

  #countFreed(entries: NamedEntries): void {
    const { float32, stored } = entriesSize(this.#checkpoint, this.#spec, entries)
    // Arrays of 16-bit values have already been released, when they were unpacked.
    countFreed(2 * stored === float32 ? 0 : float32)
  }

  /** Divides the tensors of a part into those that are leased together, and those of experts that are read one by one. */
  #divide(part: Part): ReturnType<typeof dividePart> {
    const names = () => partNames(this.#spec, part)
    const isWhole = this.residency === 'resident' || this.#keptAsFloat32.has(part)
    const divided = this.#divided.get(part) ?? (isWhole ? { around: names(), experts: new Map() } : dividePart(names()))
    this.#divided.set(part, divided)
    return divided
  }

  #readAhead(piece: Piece, entries: NamedEntries): void {
    if (this.#packed.has(piece) || this.#reading.has(piece)) return
    const reading = readEntries(this.#checkpoint, this.#spec, entries)
    // A failed read is reported when the piece is needed.
    reading.catch(() => undefined)
    this.#reading.set(piece, reading)
  }

  /** Returns a packed piece, which then belongs to the caller unless it stays packed. A concurrent caller reads the piece again. */
  async #take(piece: Piece, entries: NamedEntries): Promise<PackedPart> {
    const packed = this.#packed.get(piece)
    if (packed) return packed
    const start = performance.now()
    const reading = this.#reading.get(piece) ?? readEntries(this.#checkpoint, this.#spec, entries)
    this.#reading.delete(piece)
    const read = await reading
    this.secondsWaiting += (performance.now() - start) / 1000
    const first = this.#packed.get(piece)
    if (first) disposePacked(read)
    return first ?? read
  }

  #load(part: Part): Promise<PartWeights> {
    const { around, experts } = this.#divide(part)
    const unread = new Map([...experts].map(([number, entries]) => [number, this.#expert(part, number, entries)]))
    return this.#unpack(`${part}`, part, around, (packed) => unpackPart(packed, this.#spec, part, unread))
  }

  #expert(part: Part, number: number, entries: NamedEntries): UnreadExpert {
    const piece: Piece = `${part}.${number}`
    return {
      readAhead: () => this.#readAhead(piece, entries),
      read: () => {
        // The expert that was read before this one has been released by now.
        this.#countFreed(entries)
        return this.#unpack(piece, part, entries, (packed) => unpackExpert(packed, this.#spec))
      },
    }
  }

  async #unpack<T>(piece: Piece, part: Part, entries: NamedEntries, unpack: (packed: PackedPart) => T): Promise<T> {
    const packed = await this.#take(piece, entries)
    const kept = this.residency === 'packed' && !this.#keptAsFloat32.has(part)
    if (kept) this.#packed.set(piece, packed)
    try {
      if (!this.#checked.has(piece)) checkValues(this.#checkpoint, packed)
      this.#checked.add(piece)
      return unpack(packed)
    } finally {
      if (!kept) disposePacked(packed)
    }
  }

  dispose(): void {
    for (const weights of this.#resident.values()) disposePart(weights)
    this.#resident.clear()
    for (const packed of this.#packed.values()) disposePacked(packed)
    this.#packed.clear()
    // Reads that are still running when the model closes are released as soon as they end.
    for (const reading of this.#reading.values()) void reading.then(disposePacked, () => undefined)
    this.#reading.clear()
  }
}
