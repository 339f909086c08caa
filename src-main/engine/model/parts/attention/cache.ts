import { clone, concat, fill, keep, type Tensor1D, type Tensor2D, type Tensor3D, tensor1d, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { CachedBlock } from '#engine/backend/fused.ts'
import { joinTables, type Rotary, type RotaryTables, rotaryTables } from '#engine/tensor/rotary.ts'

/** The initial number of slots. The capacity doubles when they are full. */
const firstRoom = 64

/**
 * Keys and values of sequences, [K, capacity, d] for each block. A position of a sequence has the same slot in all blocks. Sequences that
 * begin equally share the slots of their common beginning.
 */
export class KeyValueSlots {
  readonly #spec: DecoderSpec
  readonly #blocks = new Map<number, CachedBlock>()
  readonly #places = new Map<number, Map<number, number>>()
  /** By slot, the number of sequences that hold it. */
  readonly #holders: number[] = []
  readonly #free: number[] = []
  #owners = 1

  constructor(spec: DecoderSpec) {
    this.#spec = spec
  }

  /** Adds an owner, which must call `dispose` too. */
  hold(): KeyValueSlots {
    this.#owners++
    return this
  }

  /** Assigns slots to further positions of one sequence. */
  take(count: number): number[] {
    return Array.from({ length: count }, () => {
      const slot = this.#free.pop() ?? this.#holders.length
      this.#holders[slot] = 1
      return slot
    })
  }

  /** Lets one more sequence hold these slots, and returns a copy of their list. */
  share(slots: readonly number[]): number[] {
    for (const slot of slots) this.#holders[slot] = at(this.#holders, slot) + 1
    return [...slots]
  }

  giveBack(slots: readonly number[]): void {
    for (const slot of slots.toReversed()) {
      const left = at(this.#holders, slot) - 1
      this.#holders[slot] = left
      if (left === 0) this.#free.push(slot)
    }
  }

  /** The keys and values of a block, with room for every slot in use. */
  of(block: number): CachedBlock {
    const seen = this.#blocks.get(block)
    const capacity = seen?.key.shape[1] ?? 0
    const needed = this.#holders.length
    if (seen && capacity >= needed) return seen
    return this.#makeRoom(block, Math.max(2 * capacity, Math.ceil(needed / firstRoom) * firstRoom) - capacity)
  }

  /**
   * Appends the keys and values [K, N, d] of slots to those of a block, and returns where each slot is. For runtimes without operations
   * that write into slots in place.
   */
  append(block: number, slots: readonly number[], key: Tensor3D, value: Tensor3D): CachedBlock & { placeOf(slot: number): number } {
    const places = this.#places.get(block) ?? new Map<number, number>()
    const first = this.#blocks.get(block)?.key.shape[1] ?? 0
    for (const [index, slot] of slots.entries()) places.set(slot, first + index)
    this.#places.set(block, places)
    return { ...this.#put(block, key, value), placeOf: (slot) => places.get(slot) as number }
  }

  #makeRoom(block: number, more: number): CachedBlock {
    return tidy(() => {
      const { keyValueHeads, headSize } = this.#spec
      // Keys and values are written in place, so each needs memory of its own.
      const room = (): Tensor3D => fill([keyValueHeads, more, headSize], 0)
      return this.#put(block, room(), room()) as never
    })
  }

  #put(block: number, key: Tensor3D, value: Tensor3D): CachedBlock {
    const seen = this.#blocks.get(block)
    const extended = (before: Tensor3D | undefined, more: Tensor3D): Tensor3D => keep(before ? concat([before, more], 1) : clone(more))
    const all = { key: extended(seen?.key, key), value: extended(seen?.value, value) }
    seen?.key.dispose()
    seen?.value.dispose()
    this.#blocks.set(block, all)
    return all
  }

  /** Removes an owner. Frees keys and values when it was the last one. */
  dispose(): void {
    this.#owners--
    if (this.#owners > 0) return
    for (const { key, value } of this.#blocks.values()) {
      key.dispose()
      value.dispose()
    }
    this.#blocks.clear()
  }
}

/**
 * A sequence of a call: the slots of all its positions, of which the last `tokens` are new. If it continues an earlier sequence of the same
 * call, `from` is that one's index.
 */
export interface PlacedSequence {
  readonly slots: readonly number[]
  readonly tokens: number
  readonly from?: number
}

/**
 * What a DeltaNet remembers of earlier positions: the last k - 1 inputs of its convolution, [B, k - 1, channels], and its state,
 * [B * Hv, dk, dv].
 */
export interface DeltaMemory {
  readonly recent: Tensor3D
  readonly state: Tensor3D
}

/** The sequences and positions of a call's rows, and what earlier calls left for them. */
export class Past {
  readonly sequences: readonly PlacedSequence[]
  readonly cache: KeyValueSlots
  /** The memories of DeltaNets by block, for one sequence after another. */
  readonly memories: Map<number, DeltaMemory>
  /** The rows [N, 2] and the slots of all sequences, in the form that operations on placed rows read. */
  readonly rows: Tensor2D
  readonly slots: Tensor1D
  readonly #tables = new Map<Rotary, RotaryTables>()

  constructor(sequences: readonly PlacedSequence[], cache: KeyValueSlots, memories: Map<number, DeltaMemory>) {
    this.sequences = sequences
    this.cache = cache
    this.memories = memories
    const { rows, slots } = placeRows(sequences)
    this.rows = rows
    this.slots = slots
  }

  /** The rotary tables of the rows, which belong to this object. */
  tables(rotary: Rotary): RotaryTables {
    const made = this.#tables.get(rotary) ?? tablesOf(this.sequences, rotary)
    this.#tables.set(rotary, made)
    return made
  }

  dispose(): void {
    this.rows.dispose()
    this.slots.dispose()
    for (const { cosine, sine } of this.#tables.values()) {
      cosine.dispose()
      sine.dispose()
    }
    this.#tables.clear()
  }
}

/**
 * Lists the slots of all sequences; and for each row, where the slots of its sequence begin in that list, and the row's position: [N, 2].
 */
export function placeRows(sequences: readonly PlacedSequence[]): { rows: Tensor2D; slots: Tensor1D } {
  const rows: number[] = []
  let first = 0
  for (const { slots, tokens } of sequences) {
    for (let position = slots.length - tokens; position < slots.length; position++) rows.push(first, position)
    first += slots.length
  }
  const slots = Int32Array.from(sequences.flatMap((one) => one.slots))
  return { rows: tensor2d(Int32Array.from(rows), [rows.length / 2, 2]), slots: tensor1d(slots) }
}

/** Makes rotary tables for the new tokens of sequences, row by row. */
export function tablesOf(sequences: readonly PlacedSequence[], rotary: Rotary): RotaryTables {
  return joinTables(sequences.map(({ slots, tokens }) => rotaryTables(rotary, slots.length - tokens, tokens)))
}
