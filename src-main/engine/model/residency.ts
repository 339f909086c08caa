import { EspalierError } from '#contract/errors.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import type { DecoderSpec } from './spec.ts'
import { disposePart, type HostPart, type Part, type PartWeights, partSize, presentParts, readPart, uploadPart } from './weights.ts'

/**
 * Weights of the parts of a model under a memory budget: all resident when they fit; else as many of the first parts as fit,
 * and the others read from the disk each time, the next one while the present one computes.
 */
export class WeightStore {
  readonly streams: boolean
  /** Seconds that the computation stood still because a part was not read yet. */
  secondsWaiting = 0
  readonly #checkpoint: Checkpoint
  readonly #spec: DecoderSpec
  readonly #stays = new Set<Part>()
  readonly #resident = new Map<Part, PartWeights>()
  readonly #reading = new Map<Part, Promise<HostPart>>()

  /** `budgetBytes` is what parts may take as float32, the one in use and the one being read included. */
  constructor(checkpoint: Checkpoint, spec: DecoderSpec, budgetBytes: number) {
    this.#checkpoint = checkpoint
    this.#spec = spec
    const sizes = presentParts(spec).map((part) => ({ part, bytes: partSize(checkpoint, spec, part).float32 }))
    const total = sizes.reduce((sum, size) => sum + size.bytes, 0)
    const largest = sizes.reduce((most, size) => Math.max(most, size.bytes), 0)
    this.streams = total > budgetBytes
    let free = this.streams ? budgetBytes - 2 * largest : total
    if (free < 0) {
      const mebibytes = (bytes: number) => Math.ceil(bytes / 2 ** 20)
      throw new EspalierError(
        'out-of-memory',
        `A memory budget of ${mebibytes(budgetBytes)} MiB for weights is too small: the largest submodule takes ${mebibytes(largest)} MiB and two must fit. Give at least ${mebibytes(2 * largest)} MiB more with --memory.`,
      )
    }
    for (const { part, bytes } of sizes) {
      if (free < bytes) break
      free -= bytes
      this.#stays.add(part)
    }
  }

  /** Weights of a part until `release`; starts to read `next` when that one is not resident. */
  async lease(part: Part, next?: Part): Promise<PartWeights> {
    const resident = this.#resident.get(part)
    const weights = resident ?? (await this.#load(part))
    if (!resident && this.#stays.has(part)) this.#resident.set(part, weights)
    if (next !== undefined && next !== part && !this.#resident.has(next)) this.#read(next)
    return weights
  }

  release(part: Part, weights: PartWeights): void {
    if (this.#resident.get(part) === weights) return
    disposePart(weights)
    // Freed arrays are outside the heap that V8 watches; without this a streamed model grows by its own size.
    globalThis.gc?.({ type: 'minor' } as never)
  }

  #read(part: Part): Promise<HostPart> {
    let reading = this.#reading.get(part)
    if (!reading) {
      reading = readPart(this.#checkpoint, this.#spec, part)
      // A failed read is reported when the part is leased.
      reading.catch(() => undefined)
      this.#reading.set(part, reading)
    }
    return reading
  }

  async #load(part: Part): Promise<PartWeights> {
    const start = performance.now()
    const host = await this.#read(part)
    this.#reading.delete(part)
    this.secondsWaiting += (performance.now() - start) / 1000
    return uploadPart(host, this.#spec, part)
  }

  dispose(): void {
    for (const weights of this.#resident.values()) disposePart(weights)
    this.#resident.clear()
    this.#reading.clear()
  }
}
