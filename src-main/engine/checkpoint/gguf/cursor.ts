/** A value of GGUF's metadata. 64-bit numbers become JavaScript numbers. */
export type GgufValue = number | boolean | string | GgufValue[]

/** The maximum number of values in all lists of a header together. The largest vocabularies with their merges have two million. */
const maximumListed = 4_000_000

/** Thrown if the header continues beyond the bytes that have been read so far. */
export class HeaderGoesOn extends Error {}

/** Reads the little-endian parts of a GGUF header. Throws HeaderGoesOn if its bytes run out, and an Error for bytes that are not GGUF. */
export class Cursor {
  position = 0
  #listed = 0
  readonly #bytes: Uint8Array
  readonly #data: DataView
  readonly #limit: number

  /** @param limit the size of the file in bytes, which no length or count may exceed */
  constructor(bytes: Uint8Array, limit: number) {
    this.#bytes = bytes
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#limit = limit
  }

  u32(): number {
    return this.#data.getUint32(this.#take(4), true)
  }

  /** Reads a length or count. Throws if it exceeds the size of the file. */
  count(): number {
    const value = this.#data.getBigUint64(this.#take(8), true)
    if (value > BigInt(this.#limit)) throw new Error(`it claims a length or count of ${value}, but the file has ${this.#limit} bytes`)
    return Number(value)
  }

  /** Reads an unsigned 64-bit number. */
  u64(): number {
    return Number(this.#data.getBigUint64(this.#take(8), true))
  }

  string(): string {
    const length = this.count()
    const start = this.#take(length)
    // A token may begin with a byte order mark, which is one of its characters.
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(this.#bytes.subarray(start, start + length))
  }

  /** Reads a metadata value with the given type number. */
  value(type: number, depth = 0): GgufValue {
    const read = scalars[type]
    if (read) return read(this.#data, this.#take(scalarBytes[type] as number))
    if (type === 8) return this.string()
    if (type !== 9 || depth > 4) throw new Error(`it has metadata of the unknown type ${type}`)
    const inner = this.u32()
    const count = this.count()
    this.#listed += count
    if (this.#listed > maximumListed) throw new Error(`its lists have more than ${maximumListed.toLocaleString('en')} values`)
    const values: GgufValue[] = []
    for (let i = 0; i < count; i++) values.push(this.value(inner, depth + 1))
    return values
  }

  #take(bytes: number): number {
    const start = this.position
    if (start + bytes > this.#bytes.length) throw new HeaderGoesOn()
    this.position += bytes
    return start
  }
}

const scalarBytes: Readonly<Record<number, number>> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 }

const scalars: Readonly<Record<number, (data: DataView, at: number) => number | boolean>> = {
  0: (data, at) => data.getUint8(at),
  1: (data, at) => data.getInt8(at),
  2: (data, at) => data.getUint16(at, true),
  3: (data, at) => data.getInt16(at, true),
  4: (data, at) => data.getUint32(at, true),
  5: (data, at) => data.getInt32(at, true),
  6: (data, at) => toDecimal(data.getFloat32(at, true)),
  7: (data, at) => data.getUint8(at) !== 0,
  10: (data, at) => Number(data.getBigUint64(at, true)),
  11: (data, at) => Number(data.getBigInt64(at, true)),
  12: (data, at) => data.getFloat64(at, true),
}

/** The decimal number that a float32 was most likely written as: 1e-5 for 0.000009999999747378752. */
export function toDecimal(single: number): number {
  const short = Number(single.toPrecision(7))
  return Math.fround(short) === single ? short : single
}
