/** Decoders of block types below four bits and of those whose values come from a table (ggml's quantisation formats). */

/** Q2_K: sixteen groups of 16 values, each with a 4-bit scale and minimum; scales, two-bit values, then the block's scale and minimum. */
export function decodeTwoBits(data: DataView, at: number, out: Float32Array, to: number): void {
  const [scale, minimum] = [data.getFloat16(at + 80, true), data.getFloat16(at + 82, true)]
  for (let i = 0; i < 256; i++) {
    const packed = data.getUint8(at + (i >> 4))
    const value = twoBits(data, at + 16, i)
    out[to + i] = scale * (packed & 15) * value - minimum * (packed >> 4)
  }
}

/** Q3_K: sixteen groups of 16 values, each with a 6-bit scale; high bits, two low bits, packed scales, then the block's scale. */
export function decodeThreeBits(data: DataView, at: number, out: Float32Array, to: number): void {
  const scale = data.getFloat16(at + 108, true)
  for (let i = 0; i < 256; i++) {
    const high = (data.getUint8(at + (i & 31)) >> (i >> 5)) & 1
    out[to + i] = scale * (sixBitScale(data, at + 96, i >> 4) - 32) * (twoBits(data, at + 32, i) - (high ? 0 : 4))
  }
}

/** Value `i` of two bits: 128 values share 32 bytes, 32 of them the same two bits of each. */
function twoBits(data: DataView, at: number, i: number): number {
  return (data.getUint8(at + (i >> 7) * 32 + (i & 31)) >> (2 * ((i >> 5) & 3))) & 3
}

/** Scale of a group, packed into twelve bytes: four bits in the first eight, two in the last four. */
function sixBitScale(data: DataView, at: number, group: number): number {
  const low = data.getUint8(at + (group & 7))
  const high = (data.getUint8(at + 8 + (group & 3)) >> (2 * (group >> 2))) & 3
  return (group < 8 ? low & 15 : low >> 4) | (high << 4)
}

const uneven = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]

/** IQ4_NL: a scale, then 32 places in a table of values that lie closer around zero. */
export function decodeUneven(data: DataView, at: number, out: Float32Array, to: number): void {
  fromTable(data, at + 2, uneven, data.getFloat16(at, true), out, to)
}

/** IQ4_XS: the same for 256 values, in eight groups with a 6-bit scale each. */
export function decodeUnevenSuper(data: DataView, at: number, out: Float32Array, to: number): void {
  const scale = data.getFloat16(at, true)
  const high = data.getUint16(at + 2, true)
  for (let group = 0; group < 8; group++) {
    const low = (data.getUint8(at + 4 + (group >> 1)) >> (4 * (group & 1))) & 15
    fromTable(data, at + 8 + group * 16, uneven, scale * ((low | (((high >> (2 * group)) & 3) << 4)) - 32), out, to + group * 32)
  }
}

const floats = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

/** MXFP4 (OCP microscaling formats): an exponent of eight bits, then 32 floats of four bits, here doubled. */
export function decodeMicroscaled(data: DataView, at: number, out: Float32Array, to: number): void {
  fromTable(data, at + 1, floats, 2 ** (data.getUint8(at) - 128), out, to)
}

/** 32 values by place in a table: the lower halves of 16 bytes, then the upper ones. */
function fromTable(data: DataView, at: number, table: readonly number[], scale: number, out: Float32Array, to: number): void {
  for (let i = 0; i < 16; i++) {
    const byte = data.getUint8(at + i)
    out[to + i] = scale * (table[byte & 15] as number)
    out[to + i + 16] = scale * (table[byte >> 4] as number)
  }
}
