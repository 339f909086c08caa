import { EspalierError } from '#contract/errors.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { countFreed } from '#engine/checkpoint/aligned-buffer.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { type NarrowRoom, offerNarrow } from '#engine/tensor/narrow.ts'
import { storedBlocks } from './stored-blocks.ts'
import { disposePart, unpackExpert, unpackPart } from './unpack.ts'
import { Vocabulary } from './vocabulary.ts'
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

/** What is read together: a part, or one expert of it. */
type Piece = `${number}` | `${Part}.${number}`

/** Where weights are while they are not in use: as float32, as stored (half the size for 16-bit weights), or on disk. */
type Residency = 'resident' | 'packed' | 'streamed'

/** The smallest memory for weights that a model can be computed in: two of the largest parts. */
export function leastBytes(checkpoint: Checkpoint, spec: DecoderSpec): number {
  return 2 * presentParts(spec).reduce((most, part) => Math.max(most, partSize(checkpoint, spec, part).byExpert), 0)
}

/**
 * Weights of the parts of a model under a memory budget. If all fit as float32, they stay so. Else, if all fit as stored, they stay so and
 * are unpacked when used. Else as many of the first parts as fit stay, and the others are read from disk each time, the next one while the
 * current one computes. Mixtures that do not stay as float32 are unpacked, or read, expert by expert.
 */
export class WeightStore {
  readonly residency: Residency
  /** Whether weights fit in 16 bits, or in fewer, besides those in float32. */
  readonly hasRoomToNarrow: boolean
  /** Memory left for such weights, of the model and of all its views. */
  readonly narrowRoom: NarrowRoom
  /** Seconds that the computation waited for parts to be read. */
  secondsWaiting = 0
  readonly #checkpoint: Checkpoint
  readonly #spec: DecoderSpec
  readonly #stays = new Set<Part>()
  readonly #resident = new Map<Part, PartWeights>()
  /** How often resident weights are currently leased. */
  readonly #leases = new Map<Part, number>()
  readonly #packed = new Map<Piece, PackedPart>()
  /** Pieces whose values were checked to be finite. */
  readonly #checked = new Set<Piece>()
  readonly #reading = new Map<Piece, Promise<PackedPart>>()
  readonly #divided = new Map<Part, ReturnType<typeof dividePart>>()

  /** `budgetBytes` is the memory for parts, including the one in use and the one being read as float32. */
  constructor(checkpoint: Checkpoint, spec: DecoderSpec, budgetBytes: number) {
    this.#checkpoint = checkpoint
    this.#spec = spec
    const sizes = presentParts(spec).map((part) => ({ part, ...partSize(checkpoint, spec, part) }))
    const total = sizes.reduce((sum, size) => sum + size.float32, 0)
    const stored = sizes.reduce((sum, size) => sum + size.stored, 0)
    const largest = sizes.reduce((most, size) => Math.max(most, size.byExpert), 0)
    this.residency = total <= budgetBytes ? 'resident' : stored < total && stored + 2 * largest <= budgetBytes ? 'packed' : 'streamed'
    this.hasRoomToNarrow = (total + Vocabulary.bytes(spec) / 3) * 1.5 <= budgetBytes
    this.narrowRoom = { bytes: budgetBytes - total }
    let free = this.residency === 'resident' ? total : budgetBytes - 2 * largest
    if (free < 0) {
      const mebibytes = (bytes: number) => Math.ceil(bytes / 2 ** 20)
      throw new EspalierError(
        'out-of-memory',
        `A memory budget of ${mebibytes(budgetBytes)} MiB for weights is too small: the largest submodule takes ${mebibytes(largest)} MiB${spec.router ? ' (of a mixture, two experts at a time)' : ''} and two must fit. Give more memory: two submodules take ${mebibytes(2 * largest)} MiB.`,
      )
    }
    if (this.residency === 'packed') free -= stored
    for (const size of sizes) {
      const more = this.residency === 'packed' ? size.float32 - size.stored : size.float32
      if (free < more) break
      free -= more
      this.#stays.add(size.part)
    }
  }

  /** Whether some weights exist as float32 only while they are leased. */
  get streams(): boolean {
    return this.residency !== 'resident'
  }

  /** Weights of a part until `release`. Starts to read `next` if it is not in memory. */
  async lease(part: Part, next?: Part): Promise<PartWeights> {
    const weights = this.#resident.get(part) ?? this.#settle(part, await this.#load(part))
    if (this.#resident.get(part) === weights) this.#leases.set(part, (this.#leases.get(part) ?? 0) + 1)
    if (next !== undefined && next !== part && !this.#resident.has(next)) this.#readAhead(`${next}`, this.#divide(next).around)
    return weights
  }

  /** Keeps loaded weights that are to stay, unless another borrower was first. */
  #settle(part: Part, loaded: PartWeights): PartWeights {
    const resident = this.#resident.get(part)
    if (resident) this.#free(part, loaded)
    else if (this.#stays.has(part)) {
      this.#resident.set(part, loaded)
      if (this.hasRoomToNarrow) {
        const blocks = storedBlocks({ checkpoint: this.#checkpoint, spec: this.#spec }, part, loaded)
        offerNarrow(loaded, this.narrowRoom, blocks)
      }
    }
    return resident ?? loaded
  }

  /** Releases leased weights, or others made from them. */
  release(part: Part, weights: PartWeights): void {
    if (this.#resident.get(part) === weights) this.#leases.set(part, (this.#leases.get(part) ?? 1) - 1)
    else this.#free(part, weights)
  }

  /**
   * Releases leased weights whose borrower has copied what it needs. Resident ones without another lease are freed, so that both are not in
   * memory; they are read again when needed.
   */
  exchange(part: Part, weights: PartWeights): void {
    this.release(part, weights)
    this.#drop(part, weights)
  }

  #drop(part: Part, weights: PartWeights): void {
    if (this.#resident.get(part) !== weights || (this.#leases.get(part) ?? 0) > 0) return
    this.#resident.delete(part)
    this.#free(part, weights)
  }

  /** Frees all weights that are not leased. They are read again when needed. */
  empty(): void {
    for (const [part, weights] of [...this.#resident]) this.#drop(part, weights)
    for (const packed of this.#packed.values()) disposePacked(packed)
    this.#packed.clear()
  }

  #free(part: Part, weights: PartWeights): void {
    disposePart(weights)
    this.#countFreed(this.#divide(part).around)
  }

  #countFreed(entries: NamedEntries): void {
    const { float32, stored } = entriesSize(this.#checkpoint, this.#spec, entries)
    // Arrays of 16-bit values were released when they were unpacked.
    countFreed(2 * stored === float32 ? 0 : float32)
  }

  /** The tensors of a part that are leased together, and those of its experts that are read one by one. */
  #divide(part: Part): ReturnType<typeof dividePart> {
    const names = () => partNames(this.#spec, part)
    const whole = this.residency === 'resident' || this.#stays.has(part)
    const divided = this.#divided.get(part) ?? (whole ? { around: names(), experts: new Map() } : dividePart(names()))
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

  /** The packed piece. It belongs to one caller; another one reads for itself, unless the piece stays packed. */
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
        // The one before it was released.
        this.#countFreed(entries)
        return this.#unpack(piece, part, entries, (packed) => unpackExpert(packed, this.#spec))
      },
    }
  }

  async #unpack<T>(piece: Piece, part: Part, entries: NamedEntries, unpack: (packed: PackedPart) => T): Promise<T> {
    const packed = await this.#take(piece, entries)
    const kept = this.residency === 'packed' && !this.#stays.has(part)
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
    // A read that is still under way when the model closes is released as soon as it ends.
    for (const reading of this.#reading.values()) void reading.then(disposePacked, () => undefined)
    this.#reading.clear()
  }
}
