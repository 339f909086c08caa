import { EspalierError } from '#contract/errors.ts'
import { ggufTypeTitles, mixedBytes } from '#contract/titles.ts'
import { blockTypeNamed } from '#engine/checkpoint/gguf/value-blocks.ts'

/** What llama.cpp's choice of a tensor's type depends on, besides the part of the model. */
export interface MixPlace {
  /** Position of the tensor among the `count` tensors of its part. */
  readonly index: number
  readonly count: number
  /** Query heads per key/value head in the first block. */
  readonly shared: number
  /** Whether llama.cpp treats the model as a 70B: a Llama with 80 blocks. */
  readonly isLarge: boolean
  /** Experts of each mixture, 0 if there are none, and whether the tensor holds one projection of all of them. */
  readonly experts: number
  readonly isExpert: boolean
}

/** A type, or a function that chooses one for a tensor. If it returns undefined, the main type is used. */
type Choice = string | ((place: MixPlace) => string | undefined)

/** Parts of a model that a mix may store in a type of their own. `value` includes tensors that join queries, keys and values. */
export type MixPart = 'head' | 'embedding' | 'query' | 'key' | 'value' | 'output' | 'gate' | 'up' | 'down'

/** How a GGUF file stores its matrices: a main type, and the types of parts that differ from it. */
export interface Mix extends Readonly<Partial<Record<Exclude<MixPart, 'head'>, Choice>>> {
  /** `general.file_type` (llama.h). */
  readonly fileType: number
  readonly main: string
  /** The type of the head, and of an embedding that is also the head. Default: Q6_K. */
  readonly head?: string
  /** Whether tensors keep the type of the file they come from. */
  readonly asStored?: true
}

const isFirst =
  (share: number) =>
  ({ index, count }: MixPlace): boolean =>
    index < Math.floor(count / share)
const isInMiddle = ({ index, count }: MixPlace): boolean => index >= Math.floor(count / 8) && index < Math.floor((7 * count) / 8)

/** Whether a tensor gets more bits: those in the first and last eighth of the blocks, and every third between. */
const matters = (place: MixPlace): boolean => !isInMiddle(place) || (place.index - Math.floor(place.count / 8)) % 3 === 2

/** If few key/value heads serve many query heads, their projections are small and each error affects more queries. */
const shared =
  (type: string, other?: string): Choice =>
  (place) =>
    place.shared >= 4 ? type : other
const when =
  (test: (place: MixPlace) => boolean, type: string, other?: string): Choice =>
  (place) =>
    test(place) ? type : other

const moreBits = { value: when(matters, 'Q6_K'), down: when(matters, 'Q6_K') }
/** The types with the fewest bits give attention more bits in mixtures, where attention is small. */
const spared =
  (other: string): Choice =>
  (place) =>
    place.shared >= 4 || place.experts >= 4 ? 'Q4_K' : other
const one = { value: spared('Q2_K'), down: when(isFirst(8), 'Q2_K'), embedding: 'Q2_K', head: 'Q5_K' }
const two = { value: spared('IQ3_S'), down: when(isFirst(8), 'IQ3_S'), output: 'IQ3_S', embedding: 'IQ3_S', head: 'Q5_K' }
const middle = when(isInMiddle, 'IQ3_XXS')

/**
 * The mixes of llama.cpp's quantiser, under its names. Each part has the type that llama.cpp chooses if it has importances; Espalier
 * measures these for main types of up to four bits. llama.cpp uses MXFP4 only for experts. Espalier also uses it for every matrix of a
 * model without experts.
 */
export const mixes: Readonly<Record<keyof typeof ggufTypeTitles, Mix>> = {
  F32: { fileType: 0, main: 'F32', head: 'F32' },
  F16: { fileType: 1, main: 'F16', head: 'F16' },
  BF16: { fileType: 32, main: 'BF16', head: 'BF16' },
  Q8_0: { fileType: 7, main: 'Q8_0', head: 'Q8_0' },
  Q6_K: { fileType: 18, main: 'Q6_K' },
  Q5_K_M: { fileType: 17, main: 'Q5_K', ...moreBits },
  Q5_K_S: { fileType: 16, main: 'Q5_K' },
  Q5_1: { fileType: 9, main: 'Q5_1' },
  Q5_0: { fileType: 8, main: 'Q5_0' },
  Q4_K_M: { fileType: 15, main: 'Q4_K', ...moreBits },
  Q4_K_S: { fileType: 14, main: 'Q4_K', value: when(({ index }) => index < 4, 'Q5_K'), down: when(isFirst(8), 'Q5_K') },
  Q4_1: { fileType: 3, main: 'Q4_1' },
  Q4_0: { fileType: 2, main: 'Q4_0', down: when(isFirst(8), 'Q4_1') },
  IQ4_NL: { fileType: 25, main: 'IQ4_NL', value: shared('Q5_K') },
  IQ4_XS: { fileType: 30, main: 'IQ4_XS', value: shared('Q5_K') },
  MXFP4: { fileType: 38, main: 'MXFP4', head: 'Q8_0' },
  Q3_K_L: { fileType: 13, main: 'Q3_K', value: 'Q5_K', down: 'Q5_K', output: 'Q5_K' },
  Q3_K_M: {
    fileType: 12,
    main: 'Q3_K',
    value: when(({ index }) => index < 2, 'Q5_K', 'Q4_K'),
    down: when(isFirst(16), 'Q5_K', 'Q4_K'),
    output: 'Q4_K',
  },
  Q3_K_S: { fileType: 11, main: 'Q3_K' },
  IQ3_M: { fileType: 27, main: 'IQ3_S', value: 'Q4_K', down: when(isFirst(8), 'Q4_K'), output: 'Q4_K' },
  IQ3_S: { fileType: 26, main: 'IQ3_S', value: shared('Q4_K') },
  IQ3_XS: { fileType: 22, main: 'IQ3_S', value: shared('Q4_K'), key: 'IQ3_XXS', query: 'IQ3_XXS', gate: middle, up: middle },
  IQ3_XXS: {
    fileType: 23,
    main: 'IQ3_XXS',
    value: shared('Q4_K'),
    key: 'IQ2_S',
    query: 'IQ2_S',
    output: 'IQ3_S',
    embedding: 'IQ3_S',
    head: 'Q5_K',
  },
  Q2_K: { fileType: 10, main: 'Q2_K', value: shared('Q4_K', 'Q3_K'), down: 'Q3_K', output: 'Q3_K' },
  Q2_K_S: { fileType: 21, main: 'Q2_K', value: shared('Q4_K'), down: when(isFirst(8), 'Q4_K') },
  IQ2_M: { fileType: 29, main: 'IQ2_S', ...two },
  IQ2_S: { fileType: 28, main: 'IQ2_XS', ...two },
  IQ2_XS: { fileType: 20, main: 'IQ2_XS', ...one },
  IQ2_XXS: { fileType: 19, main: 'IQ2_XXS', ...one },
  IQ1_M: { fileType: 31, main: 'IQ1_M', ...one, output: 'IQ2_XXS' },
  IQ1_S: { fileType: 24, main: 'IQ1_S', ...one, output: 'IQ2_XXS' },
  SOURCE: { fileType: 0, main: 'F32', head: 'F32', asStored: true },
}

/** Returns the mix with this name; for mixed types, that of tensors without a type of their own. Throws an error that lists the names if there is none. */
export function findMix(name: string): Mix {
  if (mixedBytes(name) !== undefined) return mixes.Q4_K_M
  const found = Object.hasOwn(mixes, name) ? mixes[name as keyof typeof mixes] : undefined
  if (!found) throw new EspalierError('usage', `There is no GGUF type "${name}". Choose from: ${Object.keys(ggufTypeTitles).join(', ')}.`)
  return found
}

/** Whether the main type has at most four bits per value, so that errors are weighted by importances. */
export const weighsErrors = ({ main }: Mix): boolean => /^(IQ|Q)[1-4]|^MXFP4/.test(main)

/** The type of a part's tensor in rows of `width`, before any fallback for short rows. */
export function chosenType(mix: Mix, part: MixPart | undefined, place: MixPlace, width: number): string {
  if (part === undefined || blockTypeNamed(mix.main).dtype) return mix.main
  const ofMixture = place.experts > 0 && part !== 'head' ? mixtureType(mix, part, place) : undefined
  if (ofMixture !== undefined) return ofMixture
  if (part === 'head') return width % blockTypeNamed(mix.main).values === 0 ? (mix.head ?? 'Q6_K') : 'Q8_0'
  const choice = mix[part]
  const type = (typeof choice === 'function' ? choice(place) : choice) ?? mix.main
  const isRaised = part === 'value' && place.isLarge && !/^IQ[12]/.test(mix.main) && (type === 'Q3_K' || type === 'Q4_K')
  return isRaised ? 'Q5_K' : type
}

/** The mixes that give attention's output projection more bits in a model with eight experts, by their number in llama.h. */
const moreForOutputs = [10, 11, 12, 14, 15, 22, 23, 25, 26, 27, 30]

/**
 * The type of a part that llama.cpp's quantiser treats differently in mixtures. With eight experts, attention is so small that it gets more
 * bits.
 */
function mixtureType(mix: Mix, part: MixPart, place: MixPlace): string | undefined {
  if (mix.main === 'MXFP4') return place.isExpert ? 'MXFP4' : 'Q8_0'
  if (place.experts !== 8) return undefined
  const least = /^IQ[12]/.test(mix.main)
  if (part === 'key' || (part === 'value' && !least)) return least ? 'Q4_K' : 'Q8_0'
  if (part === 'output') return least || moreForOutputs.includes(mix.fileType) ? 'Q5_K' : mix.main
  return part === 'down' && mix.fileType === 27 && matters(place) ? 'Q4_K' : undefined
}

/** Replacements for types with blocks of 256 values, for rows that are no multiple of 256. */
const smaller: Readonly<Record<string, string>> = { Q2_K: 'Q4_0', Q3_K: 'Q4_0', Q4_K: 'Q5_0', Q5_K: 'Q5_1', Q6_K: 'Q8_0' }

/** A type that can store rows of this length: the wanted one, a similar one with shorter blocks, or F16. */
export function fitType(wanted: string, rowLength: number): string {
  const relative = smaller[wanted] ?? (wanted.startsWith('IQ') ? 'IQ4_NL' : 'F16')
  return [wanted, relative].find((name) => rowLength % blockTypeNamed(name).values === 0) ?? 'F16'
}

/** Rows must be a multiple of this many values for the mix's own types. */
export function rowMultiple(mix: Mix): number {
  return blockTypeNamed(mix.main).values
}
