import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Entry,
  type Header,
  layOut,
  type ModelFiles,
  makeValidModel,
  sizes,
  toSafetensors,
  writeModelFiles,
  writeParts,
} from './valid-model.ts'

/** One way to break a model folder: how to make it, and what the error must say. */
export interface Malformed {
  name: string
  make: (folder: string) => Promise<void>
  says: RegExp
}

/** Writes the valid model with its header or its data changed; `change` may return a different header. */
function spoilHeader(change: (header: Header, data: Uint8Array) => unknown): Malformed['make'] {
  return async (folder) => {
    const { config, tensors } = makeValidModel()
    const { header, data } = layOut(tensors)
    const changed = change(header, data)
    await writeParts(folder, config, toSafetensors(changed ?? header, data))
  }
}

/** Writes the valid model after `change` edited the bytes of its safetensors file, or returned new ones. */
function spoilBytes(change: (bytes: Buffer) => Uint8Array | undefined): Malformed['make'] {
  return async (folder) => {
    const { config, tensors } = makeValidModel()
    const { header, data } = layOut(tensors)
    const bytes = toSafetensors(header, data)
    await writeParts(folder, config, change(bytes) ?? bytes)
  }
}

/** Writes the valid model with its parts changed before they are put into a file. */
function spoilModel(change: (model: ModelFiles) => void): Malformed['make'] {
  return async (folder) => {
    const model = makeValidModel()
    change(model)
    await writeModelFiles(folder, model)
  }
}

/** Writes the valid model as one shard, with an arbitrary index. */
function spoilIndex(makeIndex: (names: string[]) => unknown, shard = 'model-00001-of-00001.safetensors'): Malformed['make'] {
  return async (folder) => {
    const { config, tensors } = makeValidModel()
    const { header, data } = layOut(tensors)
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'config.json'), JSON.stringify(config))
    await writeFile(join(folder, shard), toSafetensors(header, data))
    const index = makeIndex(Object.keys(tensors))
    await writeFile(join(folder, 'model.safetensors.index.json'), typeof index === 'string' ? index : JSON.stringify(index))
  }
}

function mapTo(shard: unknown): (names: string[]) => unknown {
  return (names) => ({ metadata: {}, weight_map: Object.fromEntries(names.map((name) => [name, shard])) })
}

const norm = 'model.norm.weight'
const head = 'lm_head.weight'

function replaceEntry(name: string, change: Entry): Malformed['make'] {
  return spoilHeader((header) => {
    header[name] = { ...header[name], ...change }
  })
}

/** Moves both ends of the last tensor's range. */
function moveLast(begin: number, end: number): Malformed['make'] {
  return spoilHeader((header) => {
    const [first = 0, last = 0] = (header[head]?.data_offsets ?? []) as number[]
    header[head] = { ...header[head], data_offsets: [first + begin, last + end] }
  })
}

/** Folders that the checkpoint reader must reject. */
export const malformedCheckpoints: Malformed[] = [
  { name: 'an empty weights file', make: spoilBytes(() => Buffer.alloc(0)), says: /0 bytes long/ },
  { name: 'a file shorter than eight bytes', make: spoilBytes((bytes) => bytes.subarray(0, 7)), says: /7 bytes long/ },
  { name: 'a file cut inside its header', make: spoilBytes((bytes) => bytes.subarray(0, 100)), says: /100 bytes long.*cut off/ },
  { name: 'a file cut inside its data', make: spoilBytes((bytes) => bytes.subarray(0, bytes.length - 1)), says: /cut off/ },
  {
    name: 'bytes after the last tensor',
    make: spoilBytes((bytes) => Buffer.concat([bytes, Buffer.alloc(3)])),
    says: /3 bytes after its last/,
  },
  {
    name: 'a header longer than the file',
    make: spoilBytes((bytes) => void bytes.writeBigUInt64LE(90_000_000n)),
    says: /header of 90000000 bytes/,
  },
  {
    name: 'a header of eight exabytes',
    make: spoilBytes((bytes) => void bytes.writeBigUInt64LE(0x7fffffffffffffffn)),
    says: /at most 100,000,000/,
  },
  { name: 'a header of no bytes', make: spoilBytes((bytes) => void bytes.writeBigUInt64LE(0n)), says: /header of 0 bytes/ },
  { name: 'a header that is not JSON', make: spoilHeader(() => '{"a": '), says: /not JSON/ },
  { name: 'a header that is an array', make: spoilHeader(() => '[1, 2]'), says: /array of 2/ },
  { name: 'a header that is not UTF-8', make: spoilBytes((bytes) => void bytes.fill(0xff, 20, 24)), says: /not UTF-8/ },
  {
    name: 'a tensor named twice',
    make: spoilHeader((header) => JSON.stringify(header).replace(/}$/, `,"${norm}":${JSON.stringify(header[norm])}}`)),
    says: /"model.norm.weight" twice/,
  },
  {
    name: 'a tensor with two shapes',
    make: spoilHeader((header) => JSON.stringify(header).replace('"shape":', '"shape":[1],"shape":')),
    says: /"shape" twice/,
  },
  {
    name: 'a tensor named __proto__',
    make: spoilHeader((header) => JSON.stringify(header).replace(norm, '__proto__')),
    says: /"__proto__", which is not allowed/,
  },
  { name: 'a tensor that is a number', make: spoilHeader((header) => ({ ...header, [norm]: 3 })), says: /by 3 instead of an object/ },
  { name: 'metadata that is text', make: spoilHeader((header) => ({ __metadata__: 'pt', ...header })), says: /__metadata__ "pt"/ },
  { name: 'an unknown dtype', make: replaceEntry(norm, { dtype: 'F12' }), says: /"F12"; known dtypes are F64/ },
  { name: 'a dtype named like a method of objects', make: replaceEntry(norm, { dtype: 'toString' }), says: /"toString"; known dtypes are/ },
  { name: 'a shape that does not fit the bytes', make: replaceEntry(norm, { shape: [9] }), says: /shape \[9\] of F32 takes 36/ },
  { name: 'a dtype that does not fit the bytes', make: replaceEntry(norm, { dtype: 'F16' }), says: /of F16 takes 16/ },
  { name: 'a negative dimension', make: replaceEntry(norm, { shape: [-2, -4] }), says: /dimension -2/ },
  { name: 'a fractional dimension', make: replaceEntry(norm, { shape: [2.5] }), says: /dimension 2.5/ },
  { name: 'a dimension beyond all files', make: replaceEntry(norm, { shape: [2 ** 52, 2 ** 52] }), says: /takes 8\.1/ },
  { name: 'a dimension that is text', make: replaceEntry(norm, { shape: ['8'] }), says: /dimension "8"/ },
  { name: 'a shape that is no array', make: replaceEntry(norm, { shape: 8 }), says: /shape of 8 instead/ },
  { name: 'a thousand dimensions', make: replaceEntry(norm, { shape: Array(1000).fill(1) }), says: /1000 dimensions/ },
  { name: 'no offsets', make: replaceEntry(norm, { data_offsets: undefined }), says: /no pair of data_offsets/ },
  { name: 'three offsets', make: replaceEntry(norm, { data_offsets: [0, 1, 2] }), says: /no pair of data_offsets/ },
  { name: 'offsets that are no whole numbers', make: replaceEntry(norm, { data_offsets: [0.5, 32.5] }), says: /0.5 and 32.5/ },
  { name: 'a negative offset', make: replaceEntry(norm, { data_offsets: [-32, 0] }), says: /-32 and 0/ },
  { name: 'an end before its begin', make: replaceEntry(norm, { data_offsets: [64, 32] }), says: /begin at 64, after its end at 32/ },
  { name: 'offsets out of range', make: moveLast(2 ** 40, 2 ** 40), says: /gap of/ },
  { name: 'offsets that overlap', make: moveLast(-4, -4), says: /overlap the one before it by 4 bytes/ },
  { name: 'a hole between tensors', make: moveLast(4, 4), says: /gap of 4 bytes/ },
  {
    name: 'two tensors on the same bytes',
    make: spoilHeader((header) => ({ ...header, twin: header[head] })),
    says: /overlap/,
  },
  { name: 'an index that is not JSON', make: spoilIndex(() => 'weight_map'), says: /index.json is not JSON/ },
  { name: 'an index without a map', make: spoilIndex(() => ({ metadata: {} })), says: /must have an object "weight_map"/ },
  {
    name: 'an index that names a folder above',
    make: spoilIndex(mapTo('../model.safetensors')),
    says: /"..\/model.safetensors"; only a plain/,
  },
  { name: 'an index that names an absolute path', make: spoilIndex(mapTo('/etc/passwd')), says: /"\/etc\/passwd"; only a plain/ },
  { name: 'an index that names a path with backslashes', make: spoilIndex(mapTo('..\\..\\secret')), says: /only a plain/ },
  { name: 'an index that names a drive', make: spoilIndex(mapTo('C:model.safetensors')), says: /only a plain/ },
  { name: 'an index that names the folder itself', make: spoilIndex(mapTo('..')), says: /only a plain/ },
  { name: 'an index that names a number', make: spoilIndex(mapTo(7)), says: /in 7, which is not a file name/ },
  { name: 'a missing shard', make: spoilIndex(mapTo('model-00002-of-00002.safetensors')), says: /lacks model-00002-of-00002/ },
  {
    name: 'a tensor that its shard lacks',
    make: spoilIndex(() => mapTo('model-00001-of-00001.safetensors')(['model.extra.weight'])),
    says: /lacks tensor model.extra.weight/,
  },
  {
    name: 'a shard that links out of the folder',
    make: async (folder) => {
      await writeModelFiles(`${folder}-elsewhere`, makeValidModel())
      await spoilIndex(mapTo('linked.safetensors'))(folder)
      await symlink(`../${folder.split(/[/\\]/).at(-1)}-elsewhere/model.safetensors`, join(folder, 'linked.safetensors'))
    },
    says: /is a link to .*outside the model's folder/,
  },
  {
    name: 'a weights file that is a folder',
    make: async (folder) => {
      await mkdir(join(folder, 'model.safetensors'), { recursive: true })
      await writeFile(join(folder, 'config.json'), '{}')
    },
    says: /not a regular file/,
  },
  {
    name: 'weights in another form',
    make: async (folder) => {
      await mkdir(folder, { recursive: true })
      await writeFile(join(folder, 'config.json'), '{}')
      await writeFile(join(folder, 'pytorch_model.bin'), 'PK')
    },
    says: /pytorch_model.bin, which Espalier cannot read/,
  },
  {
    name: 'no config',
    make: async (folder) => {
      await mkdir(folder, { recursive: true })
      await writeFile(join(folder, 'model.safetensors'), '')
    },
    says: /no config.json/,
  },
  { name: 'a config that is not JSON', make: (folder) => writeParts(folder, "{'a': 1}", Buffer.alloc(0)), says: /config.json is not JSON/ },
  {
    name: 'a config that is an array',
    make: (folder) => writeParts(folder, '[]', Buffer.alloc(0)),
    says: /config.json must hold a JSON object/,
  },
]

/** Folders with sound files that together are no model: the checkpoint reader accepts them, the model must not. */
export const malformedModels: Malformed[] = [
  { name: 'a config without hidden_size', make: spoilModel(({ config }) => delete config.hidden_size), says: /hidden_size/ },
  {
    name: 'a config with text for a number',
    make: spoilModel(({ config }) => (config.num_attention_heads = 'two')),
    says: /num_attention_heads/,
  },
  { name: 'a config without a family', make: spoilModel(({ config }) => delete config.model_type), says: /model_type/ },
  { name: 'an unknown family', make: spoilModel(({ config }) => (config.model_type = 'frobnicate')), says: /frobnicate/ },
  {
    name: 'a missing tensor',
    make: spoilModel(({ tensors }) => delete tensors['model.layers.1.mlp.up_proj.weight']),
    says: /layers.1.mlp.up_proj/,
  },
  {
    name: 'a tensor of another shape',
    make: spoilModel(({ tensors }) => {
      const tensor = tensors['model.layers.0.mlp.up_proj.weight']
      if (tensor) tensor.shape = [...tensor.shape].reverse()
    }),
    says: /layers.0.mlp.up_proj/,
  },
]

/** Models that open but fail in use. */
export const unusableModels: Malformed[] = [
  {
    name: 'a weight that is not a number',
    make: spoilModel(({ tensors }) => tensors['model.layers.1.self_attn.q_proj.weight']?.bytes.set([0, 0, 0xc0, 0x7f], 16)),
    says: /layers.1.self_attn.q_proj/,
  },
  {
    name: 'an infinite weight',
    make: spoilModel(({ tensors }) => tensors[norm]?.bytes.set([0, 0, 0x80, 0x7f], 0)),
    says: /model.norm.weight/,
  },
  {
    name: 'a tokenizer larger than the vocabulary',
    make: async (folder) => {
      await writeModelFiles(folder, makeValidModel())
      await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(makeLargeTokenizer(sizes.vocabulary + 1)))
    },
    says: /ids up to 512.*ends at 511/,
  },
]

function makeLargeTokenizer(size: number): unknown {
  const vocab = Object.fromEntries(Array.from({ length: size }, (_, id) => [id < 256 ? String.fromCodePoint(id + 256) : `w${id}`, id]))
  return { model: { type: 'BPE', vocab, merges: [] } }
}
