import { EspalierError } from '#contract/errors.ts'
import type { GgufType } from '#contract/titles.ts'
import { type EncodedTypeName, encodedTypes } from '#engine/checkpoint/gguf/encode-blocks.ts'

/** How a GGUF file stores its matrices: one type, or a mix that keeps more bits where errors cost most. */
export interface Mix {
  /** `general.file_type` (ggml.h). */
  readonly fileType: number
  readonly main: EncodedTypeName
  /** The type of the head, and of an embedding that is also the head. */
  readonly head: EncodedTypeName
  /** The type of value and down projections in the blocks that matter most, and of projections joined with them. */
  readonly more?: EncodedTypeName
  readonly joined?: EncodedTypeName
}

/** By the names that users of llama.cpp know. */
export const mixes = {
  F32: { fileType: 0, main: 'F32', head: 'F32' },
  F16: { fileType: 1, main: 'F16', head: 'F16' },
  BF16: { fileType: 32, main: 'BF16', head: 'BF16' },
  Q8_0: { fileType: 7, main: 'Q8_0', head: 'Q8_0' },
  Q4_K_M: {
    fileType: 15,
    main: 'Q4_K',
    head: 'Q6_K',
    more: 'Q6_K',
    joined: 'Q5_K',
  },
  Q4_0: { fileType: 2, main: 'Q4_0', head: 'Q6_K' },
} as const satisfies Record<GgufType, Mix>

/** The mix of that name. Throws with the list of names when there is none. */
export function findMix(name: string): Mix {
  const found = Object.hasOwn(mixes, name) ? mixes[name as GgufType] : undefined
  if (!found) throw new EspalierError('usage', `There is no GGUF type "${name}". Known are: ${Object.keys(mixes).join(', ')}.`)
  return found
}

/** Types of blocks of 256 values, and what takes their place in rows that are no multiple of that. */
const smaller: Partial<Record<EncodedTypeName, EncodedTypeName>> = { Q4_K: 'Q5_0', Q5_K: 'Q8_0', Q6_K: 'Q8_0' }

/** A type that rows of this length can have: the wanted one, its relative with shorter blocks, or F16. */
export function fitType(wanted: EncodedTypeName, rowLength: number): EncodedTypeName {
  if (rowLength % encodedTypes[wanted].values === 0) return wanted
  const relative = smaller[wanted]
  return relative && rowLength % encodedTypes[relative].values === 0 ? relative : 'F16'
}

/** Whether the n-th of several tensors of a kind keeps more bits: the first and the last eighth, and every third between. */
export function matters(index: number, count: number): boolean {
  const eighth = Math.floor(count / 8)
  return index < eighth || index >= Math.floor((7 * count) / 8) || (index - eighth) % 3 === 2
}

/** Values that a row must be a multiple of for the mix's own types. */
export function rowMultiple(mix: Mix): number {
  return encodedTypes[mix.main].values
}
