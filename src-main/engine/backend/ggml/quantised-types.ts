import { EspalierError } from '#contract/errors.ts'
import { bind, type LibraryFunction, openLibrary } from './ggml-library.ts'

/** A type of ggml that stores values in blocks whose values share scales. */
export interface QuantisedType {
  /** The name that users of llama.cpp know, for instance Q4_K. */
  readonly name: string
  /** Its number in a GGUF file. */
  readonly number: number
  /** The number of values and of bytes in one block. */
  readonly values: number
  readonly bytes: number
  readonly needsImportances: boolean
}

/** The number of types in this version of ggml. The library does not check a type's number and would read beyond its table. */
const typeCount = 43

/** Types that ggml uses only for intermediate results, never in files. */
const internal = ['q8_1', 'q8_K']

const declarations = {
  nameOf: 'const char *ggml_type_name(int type)',
  valuesOf: 'int64_t ggml_blck_size(int type)',
  bytesOf: 'size_t ggml_type_size(int type)',
  isQuantised: 'bool ggml_is_quantized(int type)',
  needsImportances: 'bool ggml_quantize_requires_imatrix(int type)',
  quantise:
    'size_t ggml_quantize_chunk(int type, const float *values, void *blocks, int64_t start, int64_t rows, int64_t width, const float *importances)',
} as const

interface Codecs {
  readonly types: readonly QuantisedType[]
  readonly quantise: LibraryFunction
  /** The functions that unpack blocks, by the number of the type. */
  readonly dequantise: ReadonlyMap<number, LibraryFunction>
}

let codecs: Codecs | undefined

function openCodecs(): Codecs {
  if (codecs) return codecs
  const library = openLibrary('ggml-base')
  const ggml = bind(library, declarations)
  const numbers = Array.from({ length: typeCount }, (_, number) => number).filter(
    (number) => ggml.isQuantised(number) && !internal.includes(String(ggml.nameOf(number))),
  )
  const types = numbers.map((number) => ({
    name: String(ggml.nameOf(number)).toUpperCase(),
    number,
    values: Number(ggml.valuesOf(number)),
    bytes: Number(ggml.bytesOf(number)),
    needsImportances: Boolean(ggml.needsImportances(number)),
  }))
  const dequantise = new Map(
    numbers.map((number) => {
      const declaration = `void dequantize_row_${String(ggml.nameOf(number))}(const void *blocks, float *values, int64_t count)`
      return [number, library.func(declaration)]
    }),
  )
  codecs = { types, quantise: ggml.quantise, dequantise }
  return codecs
}

/** Every quantised type that can be read and written. Throws if the library is missing. */
export const quantisedTypes = (): readonly QuantisedType[] => openCodecs().types

/** The type with this name. Throws `internal` if ggml does not have it. */
export function quantisedType(name: string): QuantisedType {
  const found = quantisedTypes().find((type) => type.name === name)
  if (!found) throw new EspalierError('internal', `ggml has no quantised type ${name}.`)
  return found
}

/** Unpacks whole blocks into `values`. */
export function dequantise(type: QuantisedType, blocks: Uint8Array, values: Float32Array): void {
  const count = values.length
  if (blocks.byteLength !== (count / type.values) * type.bytes)
    throw new RangeError(`${count} values of ${type.name} take ${(count / type.values) * type.bytes} bytes, not ${blocks.byteLength}`)
  openCodecs().dequantise.get(type.number)?.(blocks, values, count)
}

/**
 * The approximate number of values that one call quantises, in whole rows. It is small enough for threads to share the work of a tensor.
 */
const valuesAtOnce = 2 ** 17

/**
 * Quantises rows of finite values with several threads. `importances` says for each column how much an error there counts. Throws a
 * RangeError if the type needs importances and there are none, because ggml would end the process.
 */
export async function quantise(type: QuantisedType, values: Float32Array, width: number, importances?: Float32Array): Promise<Uint8Array> {
  if (width % type.values !== 0) throw new RangeError(`rows of ${width} values do not fit blocks of ${type.values}`)
  if (type.needsImportances && !importances) throw new RangeError(`${type.name} needs importances`)
  if (importances && importances.length !== width) throw new RangeError(`${importances.length} importances for rows of ${width}`)
  const { quantise: call } = openCodecs()
  const rows = values.length / width
  const rowBytes = (width / type.values) * type.bytes
  const blocks = new Uint8Array(rows * rowBytes)
  const rowsAtOnce = Math.max(1, Math.floor(valuesAtOnce / width))
  const pieces = Array.from({ length: Math.ceil(rows / rowsAtOnce) }, (_, piece) => piece * rowsAtOnce)
  await Promise.all(
    pieces.map((first) => {
      const count = Math.min(rowsAtOnce, rows - first)
      const source = values.subarray(first * width, (first + count) * width)
      const target = blocks.subarray(first * rowBytes, (first + count) * rowBytes)
      return callBeside(call, [type.number, source, target, 0, count, width, importances ?? null])
    }),
  )
  return blocks
}

/** Calls a function of a library on a thread of Node's pool. */
function callBeside(call: LibraryFunction, parameters: readonly unknown[]): Promise<unknown> {
  return new Promise((resolve, reject) =>
    call.async(...parameters, (error: Error | null, result: unknown) => (error ? reject(error) : resolve(result))),
  )
}
