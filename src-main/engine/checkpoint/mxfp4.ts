import { outside } from '#contract/at.ts'

/** The values of the 16 codes of MXFP4: a sign, two exponent bits and one fraction bit (OCP Microscaling Formats, section 5.3.3). */
const values = Float32Array.from([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6])

/** Bytes of a block of 32 codes (two per byte), and of the same block in GGUF, which puts the block's scale before the codes. */
const blockBytes = 16
const ggufBytes = blockBytes + 1

/** Converts blocks to GGUF's form: the scale, then bytes that hold codes j and j + 16. */
export function ggufMxfp4(codes: Uint8Array, scales: Uint8Array): Uint8Array {
  const result = new Uint8Array(scales.length * ggufBytes)
  for (const [block, scale] of scales.entries()) {
    const code = (place: number) => ((codes[block * blockBytes + (place >> 1)] ?? outside(codes, place)) >> (place % 2 === 0 ? 0 : 4)) & 15
    result[block * ggufBytes] = scale
    for (let place = 0; place < blockBytes; place++) result[block * ggufBytes + 1 + place] = code(place) | (code(place + blockBytes) << 4)
  }
  return result
}

/** Decodes blocks of 32 values: two codes per byte, the first in the low half, times 2 to the power of the block's scale minus 127. */
export function decodeMxfp4(codes: Uint8Array, scales: Uint8Array): Float32Array {
  const decoded = new Float32Array(2 * codes.length)
  for (let index = 0; index < codes.length; index++) {
    const code = codes[index] ?? outside(codes, index)
    const scale = 2 ** ((scales[index >> 4] ?? outside(scales, index >> 4)) - 127)
    decoded[2 * index] = (values[code & 15] ?? outside(values, code & 15)) * scale
    decoded[2 * index + 1] = (values[code >> 4] ?? outside(values, code >> 4)) * scale
  }
  return decoded
}
