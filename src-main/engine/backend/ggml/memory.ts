import { EspalierError } from '#contract/errors.ts'
import { type Address, ggmlFunctions } from './functions.ts'

/** A piece of a device's memory. */
export interface Place {
  readonly buffer: Address
  readonly address: Address
  readonly bytes: number
}

/** Offsets into buffers are multiples of this, which every device accepts. */
const alignment = 256

/** Pieces up to this size share buffers, because some Vulkan drivers allow only 4,096 buffers. */
const largestShared = 2 ** 16
const sharedBytes = 2 ** 20

/** At most this many bytes of freed buffers are kept for later tensors of the same size. */
const maximumFreeBytes = 2 ** 28

/** Allocates the memory of a device's tensors. A released piece is reused for a later tensor of about the same size. */
export class DeviceMemory {
  readonly #backend: Address
  readonly #ggml = ggmlFunctions()
  readonly #free = new Map<number, Place[]>()
  readonly #buffers = new Set<Address>()
  #freeBytes = 0
  #usedBytes = 0

  constructor(backend: Address) {
    this.#backend = backend
  }

  /** Bytes that tensors use. */
  get usedBytes(): number {
    return this.#usedBytes
  }

  take(bytes: number): Place {
    const size = roundedSize(bytes)
    const known = this.#free.get(size)?.pop()
    if (known && size > largestShared) this.#freeBytes -= size
    const place = known ?? (size <= largestShared ? this.#carve(size) : this.#allocate(size))
    this.#usedBytes += size
    return place
  }

  giveBack(place: Place): void {
    this.#usedBytes -= place.bytes
    if (place.bytes > maximumFreeBytes) {
      this.#freeBuffer(place.buffer)
      return
    }
    if (place.bytes > largestShared) {
      if (this.#freeBytes + place.bytes > maximumFreeBytes) this.release()
      this.#freeBytes += place.bytes
    }
    const others = this.#free.get(place.bytes)
    if (others) others.push(place)
    else this.#free.set(place.bytes, [place])
  }

  /** Returns unused buffers to the device, except shared ones. */
  release(): void {
    for (const [size, places] of this.#free) {
      if (size <= largestShared) continue
      for (const { buffer } of places) this.#freeBuffer(buffer)
      this.#free.delete(size)
    }
    this.#freeBytes = 0
  }

  /** Returns all buffers to the device, including those that tensors use. */
  dispose(): void {
    for (const buffer of this.#buffers) this.#freeBuffer(buffer)
    this.#free.clear()
  }

  #freeBuffer(buffer: Address): void {
    this.#buffers.delete(buffer)
    this.#ggml.freeBuffer(buffer)
  }

  #allocate(bytes: number): Place {
    let buffer = this.#ggml.newBuffer(this.#backend, bytes) as Address
    if (!buffer) {
      this.release()
      buffer = this.#ggml.newBuffer(this.#backend, bytes) as Address
    }
    if (!buffer) {
      throw new EspalierError(
        'out-of-memory',
        `The device has no ${bytes.toLocaleString('en')} bytes left for a tensor; Espalier uses ${this.#usedBytes.toLocaleString('en')}. Lower the memory limit in Settings, or choose another device.`,
      )
    }
    this.#buffers.add(buffer)
    return { buffer, address: this.#ggml.baseOf(buffer) as Address, bytes }
  }

  /** Cuts a new shared buffer into pieces of one size. */
  #carve(size: number): Place {
    const { buffer, address } = this.#allocate(sharedBytes)
    const pieces = Array.from({ length: sharedBytes / size }, (_, i) => ({ buffer, address: address + i * size, bytes: size }))
    this.#free.set(size, pieces.slice(1))
    return pieces[0] as Place
  }
}

/**
 * Rounds up to a power of two for a piece of a shared buffer, otherwise to a multiple of an eighth of the next power of two, which wastes
 * at most a fifth.
 */
function roundedSize(bytes: number): number {
  const power = 2 ** Math.ceil(Math.log2(Math.max(bytes, alignment)))
  if (power <= largestShared) return power
  return Math.ceil(bytes / (power / 8)) * (power / 8)
}
