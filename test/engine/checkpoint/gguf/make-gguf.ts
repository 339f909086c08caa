/** A metadata value, preceded by the number of its stored type. */
export type Entry = [type: number, value: unknown]

export interface GgufTensorToMake {
  name: string
  /** Type number: 0 is F32, 1 F16, 30 BF16. */
  type: number
  /** Rows first; the file stores it reversed. */
  shape: number[]
  bytes: Uint8Array
  /** Offset to write instead of the true one. */
  offset?: number
}

export interface GgufFile {
  version?: number
  metadata: Record<string, Entry>
  tensors: GgufTensorToMake[]
}

export const text = (value: string): Entry => [8, value]
export const u32 = (value: number): Entry => [4, value]
export const f32 = (value: number): Entry => [6, value]
export const texts = (values: string[]): Entry => [9, [8, values]]
export const integers = (values: number[]): Entry => [9, [5, values]]

/** The bytes of a GGUF file, with an alignment of 32. */
export function makeGguf({ version = 3, metadata, tensors }: GgufFile): Buffer {
  const parts: Buffer[] = [Buffer.from('GGUF'), number32(version), number64(tensors.length), number64(Object.keys(metadata).length)]
  for (const [key, [type, value]] of Object.entries(metadata)) parts.push(string(key), number32(type), scalar(type, value))
  let offset = 0
  for (const { name, type, shape, bytes, offset: given } of tensors) {
    parts.push(string(name), number32(shape.length), ...[...shape].reverse().map(number64), number32(type), number64(given ?? offset))
    offset += align(bytes.length)
  }
  const header = Buffer.concat(parts)
  return Buffer.concat([pad(header), ...tensors.map(({ bytes }) => pad(bytes))])
}

/** A file with these sizes under the architecture's names, and float32 tensors of zeros. */
export function makeZeros(
  architecture: string,
  sizes: Readonly<Record<string, number>>,
  shapes: readonly (readonly [name: string, shape: readonly number[]])[],
): Buffer {
  const own = Object.entries(sizes).map(([key, value]): [string, Entry] => [`${architecture}.${key}`, u32(value)])
  const metadata: Record<string, Entry> = {
    'general.architecture': text(architecture),
    [`${architecture}.attention.layer_norm_rms_epsilon`]: f32(1e-6),
    ...Object.fromEntries(own),
  }
  const tensors = shapes.map(([name, shape]) => ({
    ...{ name, type: 0, shape: [...shape] },
    bytes: new Uint8Array(4 * shape.reduce((product, size) => product * size, 1)),
  }))
  return makeGguf({ metadata, tensors })
}

/** The sizes of a Qwen3.5 with one Gated DeltaNet for `makeZeros`; two value heads share a key head. */
export const deltaSizes: Readonly<Record<string, number>> = {
  ...{ block_count: 1, context_length: 64, embedding_length: 8, feed_forward_length: 12 },
  ...{ 'attention.head_count': 2, 'attention.head_count_kv': 2, 'attention.key_length': 4, 'rope.dimension_count': 2 },
  ...{ 'ssm.conv_kernel': 4, 'ssm.state_size': 4, 'ssm.group_count': 1, 'ssm.time_step_rank': 2, 'ssm.inner_size': 8 },
}
export const deltaShapes: Readonly<Record<string, readonly number[]>> = {
  ...{ 'token_embd.weight': [6, 8], 'output_norm.weight': [8], 'blk.0.attn_norm.weight': [8], 'blk.0.post_attention_norm.weight': [8] },
  ...{ 'blk.0.attn_qkv.weight': [16, 8], 'blk.0.attn_gate.weight': [8, 8], 'blk.0.ssm_out.weight': [8, 8] },
  ...{ 'blk.0.ssm_beta.weight': [2, 8], 'blk.0.ssm_alpha.weight': [2, 8], 'blk.0.ssm_conv1d.weight': [16, 4] },
  ...{ 'blk.0.ssm_a': [2], 'blk.0.ssm_dt.bias': [2], 'blk.0.ssm_norm.weight': [4] },
  ...{ 'blk.0.ffn_gate.weight': [12, 8], 'blk.0.ffn_up.weight': [12, 8], 'blk.0.ffn_down.weight': [8, 12] },
}

function scalar(type: number, value: unknown): Buffer {
  if (type === 8) return string(value as string)
  if (type === 9) {
    const [inner, values] = value as [number, unknown[]]
    return Buffer.concat([number32(inner), number64(values.length), ...values.map((item) => scalar(inner, item))])
  }
  if (type === 6) return Buffer.from(Float32Array.of(value as number).buffer)
  if (type === 5) return Buffer.from(Int32Array.of(value as number).buffer)
  if (type === 7) return Buffer.from([value as number])
  return number32(value as number)
}

function string(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([number64(bytes.length), bytes])
}

function number32(value: number): Buffer {
  return Buffer.from(Uint32Array.of(value).buffer)
}

function number64(value: number): Buffer {
  return Buffer.from(BigUint64Array.of(BigInt(value)).buffer)
}

function align(length: number): number {
  return Math.ceil(length / 32) * 32
}

function pad(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(align(bytes.length) - bytes.length)])
}
