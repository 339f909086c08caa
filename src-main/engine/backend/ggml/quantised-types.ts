import { EspalierError } from '#contract/errors.ts'
import { bind, type LibraryFunction, openLibrary } from './library.ts'

/** A type of ggml that stores values in blocks with shared scales. */
export interface QuantisedType {
  /** As written by users of llama.cpp, for instance Q4_K. */
  readonly name: string
  /** Its number in a GGUF file. */
  readonly number: number
  /** Values and bytes of one block. */
  readonly values: number
  readonly bytes: number
  readonly needsImportances: boolean
}

/** Number of types in this version of ggml. The library does not check and reads beyond its table. */
const typeCount = 43

/** Types of intermediate results, which no file holds. */
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
  /** By the type's number. */
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

/** The type with this name. Throws `internal` for one that ggml does not have. */
export function quantisedType(name: string): QuantisedType {
  const found = quantisedTypes().find((type) => type.name === name)
  if (!found) throw new EspalierError('internal', `ggml has no quantised type ${name}.`)
  return found
}

/** Float32 values of whole blocks, written to `values`. */
export function dequantise(type: QuantisedType, blocks: Uint8Array, values: Float32Array): void {
  const count = values.length
  if (blocks.byteLength !== (count / type.values) * type.bytes)
    throw new RangeError(`${count} values of ${type.name} take ${(count / type.values) * type.bytes} bytes, not ${blocks.byteLength}`)
  openCodecs().dequantise.get(type.number)?.(blocks, values, count)
}

/** Values per call when quantising, in rows: short enough that threads share the work of a tensor. */
const valuesAtOnce = 2 ** 17

/**
 * Quantises rows of finite values with several threads. Importances are one weight per column: how much an error there counts. Throws
 * RangeError if the type needs them and there are none, because ggml would end the process.
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
      const own = values.subarray(first * width, (first + count) * width)
      const target = blocks.subarray(first * rowBytes, (first + count) * rowBytes)
      return callBeside(call, [type.number, own, target, 0, count, width, importances ?? null])
    }),
  )
  return blocks
}

/** Calls a function on a thread of Node's pool. */
function callBeside(call: LibraryFunction, parameters: readonly unknown[]): Promise<unknown> {
  return new Promise((resolve, reject) =>
    call.async(...parameters, (error: Error | null, result: unknown) => (error ? reject(error) : resolve(result))),
  )
}
