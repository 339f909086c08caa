import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ReferenceModel, referenceModel } from '../../fixtures/reference.ts'
import { makeValidModel, writeModelFiles } from '../checkpoint/valid-model.ts'

/** A model that a format cannot hold once a method has pruned it. */
export interface UnsavableModel {
  readonly name: string
  readonly make: (folder: string) => Promise<void>
  readonly method: string
  readonly format: string
  readonly ggufType?: string
  readonly says: RegExp
}

type Config = Record<string, unknown>

/** A tiny Llama with some config fields changed and, optionally, a tokenizer. */
const llama =
  (change: Config, tokenizer?: unknown) =>
  async (folder: string): Promise<void> => {
    const model = makeValidModel()
    await writeModelFiles(folder, { ...model, config: { ...model.config, ...change } })
    if (tokenizer) await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer))
  }

/** A reference model with some config fields changed. */
export const changed =
  (name: ReferenceModel, change: (config: Config) => Config = (config) => config) =>
  async (folder: string): Promise<void> => {
    await cp(await referenceModel(name), folder, { recursive: true })
    const file = join(folder, 'config.json')
    const config = JSON.parse(await readFile(file, 'utf8')) as Config
    await writeFile(file, JSON.stringify(change(config)))
  }

const vocab = Object.fromEntries(Array.from({ length: 300 }, (_, id) => [`t${id}`, id]))
const bytes = { type: 'ByteLevel', add_prefix_space: false, use_regex: false }
const pairs = (pre_tokenizer: unknown) => ({ model: { type: 'BPE', vocab, merges: [] }, pre_tokenizer })
const split = { type: 'Split', pattern: { Regex: '\\d{7}' }, behavior: 'Isolated', invert: false }
const scaled = (rope: Config) => (config: Config) => ({ ...config, rope_parameters: { ...(config.rope_parameters as Config), ...rope } })
const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 64 }
const gguf = { method: '2ssp', format: 'gguf' }
const vllm = { method: '2ssp', format: 'nemotron-nas' }

/** Shapes, families and tokenizers that llama.cpp would compute wrongly, refuse or crash on, and plans that no family can express. */
export const unsavableModels: readonly UnsavableModel[] = [
  {
    name: 'another activation',
    make: llama({ hidden_act: 'gelu' }),
    ...gguf,
    says: /SiLU, but this model has gelu.*Choose stock or exact/,
  },
  {
    name: 'frequencies that grow with the text',
    make: llama({ rope_scaling: { type: 'dynamic', factor: 2 } }),
    ...gguf,
    says: /no rotary scaling of the kind dynamic.*Choose the format stock or exact/,
  },
  {
    name: 'heads turned in part',
    make: llama({ partial_rotary_factor: 0.5 }),
    ...gguf,
    says: /rotates whole heads here, but this model only 2 of 4/,
  },
  ...['Q8_0', 'Q4_0', 'Q4_K_M'].map((ggufType) => ({
    name: `rows too short for ${ggufType}`,
    make: llama({}),
    ...gguf,
    ggufType,
    says: new RegExp(`${ggufType} stores rows in groups of 32 values, but this model's rows have 8. Choose F16, BF16 or F32`),
  })),
  {
    name: 'a tokenizer of word pieces',
    make: llama({}, { model: { type: 'WordPiece', vocab } }),
    ...gguf,
    says: /does not support this model's tokenizer.*WordPiece/,
  },
  {
    name: 'a tokenizer of unigrams',
    make: llama({}, { model: { type: 'Unigram', vocab: Object.keys(vocab).map((token) => [token, -1]) } }),
    ...gguf,
    says: /does not support this model's tokenizer.*Unigram/,
  },
  {
    name: 'text split by a rule without a name',
    make: llama({}, pairs({ type: 'Sequence', pretokenizers: [split, bytes] })),
    ...gguf,
    says: /no name for/,
  },
  {
    name: 'text with a space put before it',
    make: llama({}, pairs({ ...bytes, add_prefix_space: true, use_regex: true })),
    ...gguf,
    says: /no name for/,
  },
  {
    name: 'other limits of neurons',
    make: changed('gpt_oss', (config) => ({ ...config, swiglu_limit: 5 })),
    ...gguf,
    says: /limits neurons at 7 with a slope of 1.702.*Choose stock or exact/,
  },
  { name: 'scores of Gemma 2 scaled by another number', make: changed('gemma2'), ...gguf, says: /multiplies scores by 0.25/ },
  { name: 'scores of Gemma 3 scaled by another number', make: changed('gemma3'), ...gguf, says: /multiplies scores by 0.25/ },
  {
    name: 'other blocks without positions',
    make: changed('smollm3', (config) => ({ ...config, no_rope_layers: [1, 1, 0, 1, 1, 1] })),
    ...gguf,
    says: /every fourth block without positions/,
  },
  { name: 'factors per frequency in Qwen3', make: changed('qwen3', scaled(llama3)), ...gguf, says: /qwen3 takes no factors per frequency/ },
  {
    name: 'factors per frequency in OLMo 2',
    make: changed('olmo2', scaled(llama3)),
    ...gguf,
    says: /olmo2 takes no factors per frequency/,
  },
  {
    name: 'a sliced model as stock',
    make: changed('stories260k'),
    method: 'slicegpt',
    format: 'stock',
    says: /shortcuts of a sliced model/,
  },
  {
    name: 'norms of queries for vLLM',
    make: changed('qwen3'),
    ...vllm,
    says: /norms where the blocks of Llama have none.*Choose exact, stock or gguf/,
  },
  { name: 'a sliding window for vLLM', make: changed('mistral-window'), ...vllm, says: /block 0 has a sliding window of 64 tokens/ },
  { name: 'LongRoPE for vLLM', make: changed('phi3-longrope'), ...vllm, says: /scaled as "longrope"|sliding window/ },
  { name: 'parallel blocks for vLLM', make: changed('phi-tiny'), ...vllm, says: /not built like those of Llama/ },
  { name: 'a sliced model as gguf', make: changed('stories260k'), method: 'slicegpt', format: 'gguf', says: /shortcuts of a sliced model/ },
]
