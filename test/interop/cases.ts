import { rmSync } from 'node:fs'
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Amount } from '#contract/runs/run-request.ts'
import { mixtureModels, type ReferenceModel, referenceModel } from '../fixtures/reference.ts'
import { writeSeededModel } from '../fixtures/seeded-model.ts'

/** A model to prune and open in other programs. */
export interface InteropModel {
  readonly name: string
  readonly folder: () => Promise<string>
  /** Tokens of the windows that answers are compared on. */
  readonly length: number
  /** Texts whose token ids are compared, if the model has a tokenizer. */
  readonly texts?: readonly string[]
  /** Bounds for llama.cpp's arithmetic against ours in float32, if the family needs special ones. */
  readonly bounds?: Bounds
  /** False if llama.cpp uses other rotary factors for a short prompt. */
  readonly greedy?: boolean
  /** Bounds for transformers' arithmetic against ours, if the family needs special ones. */
  readonly inTransformers?: Bounds
  /** Methods whose result no tool can run. */
  readonly without?: readonly string[]
  /** Whether it has experts, which some methods remove; transformers has no code for its `exact` folders. */
  readonly mixture?: true
  /** GGUF types that are tried, where not all. */
  readonly types?: readonly string[]
}

/** A run's method, with options that keep it short. */
export interface InteropMethod {
  readonly method: string
  readonly amount: Amount
  readonly options: Readonly<Record<string, unknown>>
  /** Tokens that the pruned model is trained on. */
  readonly recovers?: number
  /** The models that it is tried on; without it, all dense ones. */
  readonly on?: readonly string[]
  /** Whether it is tried on mixtures, and only there. */
  readonly mixtures?: true
  /** GGUF types that are tried, where not all: how weights are rounded does not depend on the method. */
  readonly types?: readonly string[]
}

/** What rounding to a type does depends on the type, so most families try few of them. */
const fewTypes = ['F32', 'Q4_K_M']
const usual = { length: 160, types: fewTypes }
const everyType = { length: 160 }
// llama.cpp looks the GELU of Phi and Gemma up in a table of half precision.
const table = { ...usual, bounds: { perplexity: 3e-4, logits: 2e-3 } }
// A Gated DeltaNet normalises small inputs, so the order of sums and the types have larger effects.
const delta = { inTransformers: { perplexity: 1e-5, logits: 1e-4 }, bounds: { perplexity: 1e-5, logits: 5e-4 }, types: ['F32'] }

const reference = (
  name: ReferenceModel,
  rest: Omit<InteropModel, 'name' | 'folder'> = usual,
  change: Record<string, unknown> = {},
): InteropModel => ({
  name,
  folder: () => changedModel(name, change),
  ...rest,
})

/** A reference model with some fields of its config replaced, the others spelled as before, because transformers distinguishes 6 from 6.0. */
async function changedModel(name: ReferenceModel, change: Record<string, unknown>): Promise<string> {
  const folder = await referenceModel(name)
  const file = join(folder, 'config.json')
  const changed = Object.entries(change).reduce(
    (text, [key, value]) => text.replace(new RegExp(`("${key}": *)[^,\\n]+`), `$1${JSON.stringify(value)}`),
    await readFile(file, 'utf8'),
  )
  await writeFile(file, changed)
  return folder
}

const sample = join(import.meta.dirname, '..', '..', 'resources', 'sample-model')

/** A family without recorded results; its folder is deleted when the process ends. */
async function seededMixture(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'espalier-interop-mixture-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  return writeSeededModel(folder, { type: 'qwen2_moe', hidden: 64, intermediate: 32, heads: 4, keyValueHeads: 2, blocks: 3, experts: 8 })
}

/** One or more of every family that is pruned. */
export const models: readonly InteropModel[] = [
  {
    name: 'sample model (Llama)',
    folder: async () => sample,
    texts: ['The plant, 1,234 of them!', "it's  two  spaces\nand a line", 'naïve café 東京 🙂', ' leading and trailing ', 'x = y*2;\tz'],
    ...everyType,
  },
  reference('stories260k', everyType),
  reference('llama3-rope'),
  reference('llama-headdim'),
  reference('mistral-tiny'),
  // llama.cpp does not compute this family's window, so files end with it.
  reference('mistral-window', { ...usual, length: 60 }),
  reference('qwen2-tiny'),
  reference('qwen2-tiny-tied'),
  reference('qwen2-yarn'),
  reference('phi3-tiny'),
  // Its short factors apply up to 128 tokens, and llama.cpp's contexts have at least 256.
  reference('phi3-longrope', { ...usual, greedy: false }, { sliding_window: null }),
  reference('phi4-mini', { ...usual, greedy: false }),
  reference('phi-tiny', table),
  reference('qwen3'),
  reference('qwen3-tied'),
  reference('smollm3'),
  // llama.cpp computes the scale of scores from the head size, as in published models.
  reference('gemma2', table, { query_pre_attn_scalar: 16 }),
  reference('gemma3', table, { query_pre_attn_scalar: 16 }),
  reference('olmo2'),
  reference('olmo3'),
  reference('granite'),
  // Without any block of full attention, as ShortGPT leaves this small one, transformers cannot run it.
  reference('qwen3_5', { ...usual, ...delta, without: ['shortgpt'] }),
  // Rounding in other types sends tokens of these random models to different experts.
  ...mixtureModels
    .filter((name) => name !== 'gpt_oss')
    .map((name) => reference(name, { ...usual, ...(name === 'qwen3_5_moe' ? delta : {}), mixture: true, types: ['F32'] })),
  // llama.cpp rounds the range of frequencies that YaRN blends.
  reference('gpt_oss', { ...usual, mixture: true, types: ['F32'] }, { truncate: true }),
  reference('gpt_oss-mxfp4', { ...usual, mixture: true, types: ['F32'] }, { truncate: true }),
  { name: 'qwen2_moe', folder: seededMixture, ...everyType, length: 60, mixture: true },
]

/** Whether a method is tried on a model. */
export const fits = ({ name, mixture, without = [] }: InteropModel, { method, on = [name], mixtures }: InteropMethod): boolean =>
  on.includes(name) && mixture === mixtures && !without.includes(method)

/** Models in which a removed block or submodule leaves different things: windows, sequential and parallel residuals, norms on outputs. */
const shapes = ['sample model (Llama)', 'mistral-window', 'phi-tiny', 'gemma3', 'olmo2', 'qwen3_5']

/** Narrower MLPs and fewer attentions, also trained; whole blocks; submodules of either kind. */
export const methods: readonly InteropMethod[] = [
  { method: '2ssp', amount: { sparsity: 0.375 }, options: { windows: 4 } },
  { method: '2ssp', amount: { sparsity: 0.375 }, options: { windows: 4 }, recovers: 2 ** 14, on: ['sample model (Llama)'] },
  { method: 'shortgpt', amount: { blocks: 2 }, options: { windows: 4 }, on: shapes, types: fewTypes },
  { method: 'blockpruner_submodule', amount: { sparsity: 0.375 }, options: { windows: 2 }, on: shapes, types: fewTypes },
  { method: 'reap', amount: { experts: 0.25 }, options: { windows: 4 }, mixtures: true },
]

/** Relative bounds: for the perplexity, and for any logit against the largest. */
export interface Bounds {
  readonly perplexity: number
  readonly logits: number
}

/** For folders in transformers, and for float32 files in llama.cpp unless a family has a wider bound. */
export const exactBounds: Bounds = { perplexity: 3e-6, logits: 1.5e-5 }

/**
 * GGUF types, with bounds for llama.cpp's answers against ours on the same file: llama.cpp also rounds the inputs of products to half
 * precision or to 8 bits, which matters on these small random models.
 */
export const ggufBounds: Readonly<Record<string, Bounds>> = {
  F32: exactBounds,
  F16: { perplexity: 5e-4, logits: 1e-2 },
  BF16: { perplexity: 5e-3, logits: 6e-2 },
  Q8_0: { perplexity: 1.5e-2, logits: 0.2 },
  Q4_K_M: { perplexity: 1.5e-2, logits: 0.2 },
  Q4_0: { perplexity: 1.5e-2, logits: 0.2 },
}
