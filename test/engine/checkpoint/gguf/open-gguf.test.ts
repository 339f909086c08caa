import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { EspalierError } from '#contract/errors.ts'
import { fromFloat32, toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { readHeader } from '#engine/checkpoint/gguf/header.ts'
import { decodeBlocks } from '#engine/checkpoint/gguf/value-blocks.ts'
import { openCheckpoint } from '#engine/checkpoint/open-checkpoint.ts'
import { readBytes } from '#engine/checkpoint/regular-file.ts'
import { openRegular } from '#runtime/small-file.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { makeValidModel } from '../valid-model.ts'
import {
  deltaShapes,
  deltaSizes,
  type Entry,
  f32,
  type GgufFile,
  type GgufTensorToMake,
  integers,
  makeGguf,
  makeZeros,
  text,
  u32,
} from './make-gguf.ts'

const place = scratchFolder('gguf')

async function write(name: string, content: GgufFile | Uint8Array): Promise<string> {
  const file = join(place, `${name}.gguf`)
  await writeFile(file, content instanceof Uint8Array ? content : makeGguf(content))
  return file
}

const valid = makeValidModel()
const heads = 2
const headRows = 4

const names: Record<string, string> = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
  input_layernorm: 'attn_norm',
  post_attention_layernorm: 'ffn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}

/** Reorders query or key rows as conversion to GGUF does: it interleaves the two halves of each head. */
function interleave(bytes: Uint8Array): Uint8Array {
  const rowBytes = bytes.length / (heads * headRows)
  const result = new Uint8Array(bytes.length)
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < headRows; row++) {
      const to = head * headRows + (row % (headRows / 2)) * 2 + Math.floor(row / (headRows / 2))
      const from = head * headRows + row
      result.set(bytes.subarray(from * rowBytes, (from + 1) * rowBytes), to * rowBytes)
    }
  }
  return result
}

/** The valid model as a GGUF file; matrices stored as float16 when asked for. */
function makeModel(architecture = 'llama', half = false): GgufFile & { tensors: GgufTensorToMake[] } {
  const key = (name: string) => `${architecture}.${name}`
  const metadata: Record<string, Entry> = {
    'general.architecture': text(architecture),
    'general.name': text('tiny'),
    [key('block_count')]: u32(2),
    [key('context_length')]: u32(64),
    [key('embedding_length')]: u32(8),
    [key('feed_forward_length')]: integers([12, 12]),
    [key('attention.head_count')]: u32(heads),
    [key('attention.layer_norm_rms_epsilon')]: f32(1e-5),
    [key('rope.freq_base')]: f32(500000),
  }
  const tensors = Object.entries(valid.tensors).map(([name, { shape, bytes }]) => {
    const [, block, part, kind] = /^(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name) ?? []
    const ours = architecture === 'llama' && /[qk]_proj/.test(name) ? interleave(bytes) : bytes
    const stored = half && shape.length > 1 ? fromFloat32(toFloat32(ours, 'F32'), 'F16') : ours
    return {
      name: `${block === undefined ? '' : `blk.${block}.`}${names[part as string]}.${kind}`,
      type: stored === ours ? 0 : 1,
      shape,
      bytes: stored,
    }
  })
  return { metadata, tensors }
}

describe('a GGUF model', () => {
  it('looks like the folder it was made from: config, names, shapes, values and order of rows', async () => {
    const checkpoint = await openCheckpoint(await write('llama', makeModel()))
    expect(checkpoint.config).toEqual({
      model_type: 'llama',
      hidden_size: 8,
      intermediate_size: 12,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      num_key_value_heads: 2,
      head_dim: 4,
      vocab_size: 512,
      max_position_embeddings: 64,
      rms_norm_eps: 1e-5,
      rope_theta: 500000,
      hidden_act: 'silu',
      tie_word_embeddings: false,
      attention_bias: false,
      mlp_bias: false,
    })
    expect([...checkpoint.tensors.keys()].sort()).toEqual(Object.keys(valid.tensors).sort())
    for (const [name, { shape, bytes }] of Object.entries(valid.tensors)) {
      expect(checkpoint.tensors.get(name)).toMatchObject({ name, dtype: 'F32', shape, bytes: bytes.length })
      expect(Buffer.compare(await checkpoint.read(name), bytes)).toBe(0)
    }
    await checkpoint.close()
  })

  it('gives any rows, also across heads whose rows are reordered', async () => {
    const checkpoint = await openCheckpoint(await write('rows', makeModel('llama', true)))
    for (const name of ['model.layers.0.self_attn.q_proj.weight', 'model.layers.1.mlp.up_proj.weight']) {
      expect(checkpoint.tensors.get(name)?.dtype).toBe('F16')
      const whole = await checkpoint.readFloat32(name)
      const rows = checkpoint.tensors.get(name)?.shape[0] ?? 0
      for (let first = 0; first < rows; first++) {
        for (let count = 0; count <= rows - first; count++) {
          expect(await checkpoint.readFloat32(name, { first, count })).toEqual(whole.slice(first * 8, (first + count) * 8))
        }
      }
    }
    await expect(checkpoint.read('model.norm.weight', { first: 7, count: 2 })).rejects.toThrow(/it has 8/)
    await checkpoint.close()
  })

  it('is tied if it has no head, and has biases if they are in the file', async () => {
    const model = makeModel('qwen2')
    model.tensors = model.tensors.filter(({ name }) => name !== 'output.weight')
    for (const part of ['q', 'k', 'v'])
      model.tensors.push({ name: `blk.0.attn_${part}.bias`, type: 0, shape: [8], bytes: new Uint8Array(32) })
    const checkpoint = await openCheckpoint(await write('qwen2', model))
    expect(checkpoint.config).toMatchObject({ model_type: 'qwen2', tie_word_embeddings: true, attention_bias: true })
    expect(checkpoint.tensors.has('model.layers.0.self_attn.q_proj.bias')).toBe(true)
    const name = 'model.layers.0.self_attn.q_proj.weight'
    expect(Buffer.compare(await checkpoint.read(name), valid.tensors[name]?.bytes ?? Buffer.alloc(0))).toBe(0)
    await checkpoint.close()
  })
})

describe('rotary scaling in GGUF', () => {
  const withFactors = (factors: Record<string, number[]>, size: number, more: Record<string, Entry> = {}): GgufFile => {
    const model = makeModel()
    Object.assign(model.metadata, { 'llama.rope.dimension_count': u32(size), 'llama.attention.key_length': u32(size), ...more })
    for (const [name, values] of Object.entries(factors)) {
      model.tensors.push({
        name: `${name}.weight`,
        type: 0,
        shape: [values.length],
        bytes: new Uint8Array(Float32Array.from(values).buffer),
      })
    }
    return model
  }
  const configOf = async (name: string, model: GgufFile) => {
    const checkpoint = await openCheckpoint(await write(name, model))
    await checkpoint.close()
    return checkpoint.config
  }

  it("is recognised as Llama 3's from its factors", async () => {
    // Llama-3.2: factor 32 over 8192 positions, base 500000, head size 64.
    const factors = Array.from({ length: 32 }, (_, i) => {
      const turns = (8192 * 500000 ** (-i / 32)) / (2 * Math.PI)
      const blend = Math.min(1, Math.max(0, (turns - 1) / 3))
      return 1 / ((1 - blend) / 32 + blend)
    })
    expect((await configOf('llama3', withFactors({ rope_freqs: factors }, 64))).rope_scaling).toEqual({
      rope_type: 'llama3',
      factor: 32,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    })
  })

  it('by any other factors is stated unchanged', async () => {
    const scaling = {
      rope_type: 'longrope',
      short_factor: [1, 2.5],
      long_factor: [1, 2.5],
      attention_factor: 1,
      original_max_position_embeddings: 64,
    }
    expect((await configOf('factors', withFactors({ rope_freqs: [1, 2.5] }, 4))).rope_scaling).toEqual(scaling)
  })

  it('by YaRN and LongRoPE keeps its numbers', async () => {
    const original = { 'llama.rope.scaling.original_context_length': u32(16) }
    const yarn = { 'llama.rope.scaling.type': text('yarn'), 'llama.rope.scaling.factor': f32(4), ...original }
    expect((await configOf('yarn', withFactors({}, 4, yarn))).rope_scaling).toEqual({
      rope_type: 'yarn',
      factor: 4,
      original_max_position_embeddings: 16,
    })
    const own = { ...yarn, 'llama.rope.scaling.attn_factor': f32(1.5 / (0.1 * Math.log(4) + 1)) }
    expect((await configOf('yarn-attention', withFactors({}, 4, own))).rope_scaling).toMatchObject({ attention_factor: 1.5 })
    const config = await configOf('longrope', withFactors({ rope_factors_short: [1, 1.05], rope_factors_long: [1, 1.9] }, 4, original))
    expect(config.rope_scaling).toEqual({ type: 'longrope', short_factor: [1, 1.05], long_factor: [1, 1.9] })
    expect(config.original_max_position_embeddings).toBe(16)
  })
})

describe('quantised blocks', () => {
  it('give the values that the Python package reads from them', async () => {
    const fixtures = join(import.meta.dirname, '../../../fixtures/gguf')
    const expected = JSON.parse(await readFile(join(fixtures, 'blocks.json'), 'utf8')) as Record<string, number[]>
    const handle = await openRegular(join(fixtures, 'blocks.gguf'))
    const { tensors } = await readHeader(handle, 'blocks.gguf')
    for (const [name, { begin, bytes, type }] of tensors) {
      expect(decodeBlocks(await readBytes(handle, begin, bytes, name), type)).toEqual(Float32Array.from(expected[name] ?? []))
    }
    expect([...tensors.keys()].sort()).toEqual(Object.keys(expected).sort())
    await handle.close()
  })

  it('appear as float32 tensors, by rows too', async () => {
    const model = makeModel()
    const blocks = Uint8Array.from({ length: 512 * 34 }, (_, i) => (i % 34 === 0 ? 0 : i % 34 === 1 ? 0x3c : i % 200))
    model.tensors[0] = { name: 'token_embd.weight', type: 8, shape: [512, 32], bytes: blocks }
    const checkpoint = await openCheckpoint(await write('q8', model))
    const name = 'model.embed_tokens.weight'
    expect(checkpoint.tensors.get(name)).toMatchObject({ dtype: 'F32', shape: [512, 32], bytes: 512 * 32 * 4 })
    const whole = await checkpoint.readFloat32(name)
    expect(whole[0]).toBe(2)
    expect(await checkpoint.readFloat32(name, { first: 100, count: 3 })).toEqual(whole.slice(3200, 3296))
    expect(await checkpoint.read(name)).toHaveLength(512 * 32 * 4)
    await checkpoint.close()
  })
})

describe('a malformed GGUF file', () => {
  const sound = makeGguf(makeModel())
  const spoil = (change: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(sound)
    change(bytes)
    return bytes
  }
  const spoilTensor = (change: Partial<GgufTensorToMake>, index = 0) => {
    const model = makeModel()
    model.tensors[index] = { ...(model.tensors[index] as GgufTensorToMake), ...change }
    return makeGguf(model)
  }
  const spoilMetadata = (change: Record<string, Entry | undefined>) => {
    const model = makeModel()
    const entries = Object.entries({ ...model.metadata, ...change }).filter((entry): entry is [string, Entry] => entry[1] !== undefined)
    return makeGguf({ ...model, metadata: Object.fromEntries(entries) })
  }
  const spoilDelta = (sizes: Record<string, number>, shapes: Record<string, number[]> = {}) =>
    makeZeros('qwen35', { ...deltaSizes, ...sizes }, Object.entries({ ...deltaShapes, ...shapes }))
  const cases: [string, Uint8Array, RegExp][] = [
    ['no bytes', Buffer.alloc(0), /ends inside its header, after 0 bytes/],
    ['another format', Buffer.from('PK\u0003\u0004 something else entirely'), /does not begin with GGUF/],
    ['version 1', spoil((bytes) => bytes.writeUInt32LE(1, 4)), /version is 1;/],
    ['big-endian', spoil((bytes) => bytes.writeUInt32BE(3, 4)), /big-endian/],
    ['cut inside its header', sound.subarray(0, 200), /ends inside its header, after 200 bytes/],
    ['cut inside its data', sound.subarray(0, sound.length - 64), /but the file has \d+ bytes\. Download it again/],
    ['a trillion tensors', spoil((bytes) => bytes.writeBigUInt64LE(10n ** 12n, 8)), /length or count of 1000000000000/],
    ['a trillion keys', spoil((bytes) => bytes.writeBigUInt64LE(10n ** 12n, 16)), /length or count of 1000000000000/],
    ['a key longer than the file', spoil((bytes) => bytes.writeBigUInt64LE(2n ** 60n, 24)), /length or count of 1152921504606846976/],
    ['metadata of an unknown type', spoilMetadata({ odd: [99, 1] }), /unknown type 99/],
    ['an alignment that is none', spoilMetadata({ 'general.alignment': u32(33) }), /alignment is 33/],
    ['no architecture', spoilMetadata({ 'general.architecture': undefined }), /general.architecture/],
    [
      'an unknown architecture',
      spoilMetadata({ 'general.architecture': text('toString') }),
      /architecture toString. Espalier supports these in GGUF: gemma2, gemma3, /,
    ],
    ['a missing key', spoilMetadata({ 'llama.block_count': undefined }), /lacks llama.block_count/],
    ['a key of another kind', spoilMetadata({ 'llama.block_count': text('two') }), /llama.block_count is "two"; it must be one number/],
    ['widths that differ', spoilMetadata({ 'llama.feed_forward_length': integers([12, 8]) }), /an array of 2; it must be one number/],
    [
      'more neurons than are stored',
      spoilMetadata({ 'espalier.neurons': integers([12, 13]) }),
      /block 1 should have 13 neurons, but 12 are/,
    ],
    [
      'neurons of too few blocks',
      spoilMetadata({ 'espalier.neurons': integers([8]) }),
      /espalier.neurons is an array of 1; it must be 2 whole/,
    ],
    ['an odd head size', spoilMetadata({ 'llama.attention.key_length': u32(3) }), /head size is 3/],
    ['an unknown scaling', spoilMetadata({ 'llama.rope.scaling.type': text('warp'), 'llama.rope.scaling.factor': f32(2) }), /by warp/],
    ['an unknown tensor type', spoilTensor({ type: 77 }), /stored as type 77, which is not known/],
    ["a type of ggml's own work space", spoilTensor({ type: 15 }), /token_embd.weight is stored as type 15, which is not known/],
    ['rows that blocks do not fit', spoilTensor({ type: 8 }), /rows of 8 values, which do not divide into Q8_0's blocks of 32/],
    ['too many dimensions', spoilTensor({ shape: Array(9).fill(1) as number[] }), /9 dimensions/],
    ['a shape beyond the file', spoilTensor({ shape: [2 ** 40, 8] }), /length or count of 1099511627776/],
    ['a shape larger than its bytes', spoilTensor({ shape: [600, 8] }), /overlaps|the file has/],
    ['an offset that is not aligned', spoilTensor({ offset: 8 }), /not a multiple of 32/],
    ['an offset out of range', spoilTensor({ offset: 2 ** 40 }), /the file has/],
    ['tensors that overlap', spoilTensor({ offset: 0 }, 1), /overlaps the one before it/],
    ['a tensor twice', spoilTensor({ name: 'output.weight' }), /tensor output.weight twice/],
    [
      'more value heads than rows',
      spoilDelta({ 'ssm.time_step_rank': 2 ** 30, 'ssm.inner_size': 2 ** 31 }),
      /attn_qkv.weight has 16 rows, its heads need 2147483656/,
    ],
    ['more value heads than columns', spoilDelta({}, { 'blk.0.ssm_out.weight': [8, 4] }), /ssm_out.weight has 4 columns, its heads need 8/],
    ['a tensor of another architecture', spoilTensor({ name: 'blk.0.ssm_in.weight' }, 1), /blk.0.ssm_in.weight, which llama does not know/],
  ]
  it('shows all dimensions of a tensor, so that a model refuses those that it does not expect', async () => {
    const [rows = 1, columns = 1] = makeModel().tensors[0]?.shape ?? []
    const checkpoint = await openCheckpoint(await write('three-dimensions', spoilTensor({ shape: [rows / 2, columns, 2] })))
    expect(checkpoint.tensors.get('model.embed_tokens.weight')?.shape).toEqual([rows / 2, columns, 2])
    await checkpoint.close()
  })

  for (const [name, bytes, says] of cases) {
    it(`gives one error that says what is wrong: ${name}`, async () => {
      const error = await openCheckpoint(await write(name.replaceAll(' ', '-'), bytes)).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(EspalierError)
      const { message } = error as EspalierError
      expect(message).toMatch(says)
      expect(message).toMatch(/[^.]\.$/)
      expect(message).not.toContain('\n')
    })
  }
})
