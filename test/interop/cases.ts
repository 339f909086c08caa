import { rmSync } from 'node:fs'
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Amount } from '#contract/runs/run-request.ts'
import { mixtureModels, type ReferenceModel, referenceModel } from '../fixtures/reference.ts'
import { writeSeededModel } from '../fixtures/seeded-model.ts'

/** A model to prune and take elsewhere. */
export interface InteropModel {
  readonly name: string
  readonly folder: () => Promise<string>
  /** Tokens of the windows that answers are compared on. */
  readonly length: number
  /** Words whose ids are compared, where the model has a tokenizer. */
  readonly texts?: readonly string[]
  /** How far llama.cpp's own arithmetic may be from ours in float32, where a family has a reason. */
  readonly bounds?: Bounds
  /** False where llama.cpp takes other rotary factors for a short prompt. */
  readonly greedy?: boolean
  /** How far transformers' own arithmetic may be from ours, where a family has a reason. */
  readonly inTransformers?: Bounds
  /** Methods whose result no tool runs. */
  readonly without?: readonly string[]
  /** Whether it has experts, which a method of their own removes; transformers has no code for its `exact` folders. */
  readonly mixture?: true
  /** GGUF types that are tried, where not all. */
  readonly types?: readonly string[]
}

/** A run's method with what keeps it short. */
export interface InteropMethod {
  readonly method: string
  readonly amount: Amount
  readonly options: Readonly<Record<string, unknown>>
  /** Tokens that what is left is trained on. */
  readonly recovers?: number
  /** The models that it is tried on, where not all dense ones. */
  readonly on?: readonly string[]
  /** Whether it is tried on mixtures, and only there. */
  readonly mixtures?: true
  /** GGUF types that are tried, where not all: how weights are rounded does not depend on the method. */
  readonly types?: readonly string[]
}

const usual = { length: 160 }
// llama.cpp looks the GELU of Phi and Gemma up in a table of half precision.
const table = { ...usual, bounds: { perplexity: 3e-4, logits: 2e-3 } }
// A Gated DeltaNet normalises small reads, so other orders of sums and other types show more.
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

/** A family that nothing is recorded of; its folder goes when the process ends. */
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
    ...usual,
  },
  reference('stories260k'),
  reference('llama3-rope'),
  reference('llama-headdim'),
  reference('mistral-tiny'),
  // llama.cpp computes no window here, so files end where it does.
  reference('mistral-window', { ...usual, length: 60 }),
  reference('qwen2-tiny'),
  reference('qwen2-tiny-tied'),
  reference('qwen2-yarn'),
  reference('phi3-tiny'),
  // Its short factors hold to 128 tokens, and llama.cpp's contexts begin at 256.
  reference('phi3-longrope', { ...usual, greedy: false }, { sliding_window: null }),
  reference('phi4-mini', { ...usual, greedy: false }),
  reference('phi-tiny', table),
  reference('qwen3'),
  reference('qwen3-tied'),
  reference('smollm3'),
  // llama.cpp works the scale of scores out from the size of heads, as it is in published ones.
  reference('gemma2', table, { query_pre_attn_scalar: 16 }),
  reference('gemma3', table, { query_pre_attn_scalar: 16 }),
  reference('olmo2'),
  reference('olmo3'),
  reference('granite'),
  // Without any block of full attention, as ShortGPT leaves this small one, transformers cannot run it.
  reference('qwen3_5', { ...usual, ...delta, without: ['shortgpt'] }),
  // Rounding in other types sends tokens of these random models to other experts.
  ...mixtureModels
    .filter((name) => name !== 'gpt_oss')
    .map((name) => reference(name, { ...usual, ...(name === 'qwen3_5_moe' ? delta : {}), mixture: true, types: ['F32'] })),
  // llama.cpp rounds the range of frequencies that YaRN blends.
  reference('gpt_oss', { ...usual, mixture: true, types: ['F32'] }, { truncate: true }),
  reference('gpt_oss-mxfp4', { ...usual, mixture: true, types: ['F32'] }, { truncate: true }),
  { name: 'qwen2_moe', folder: seededMixture, ...usual, length: 60, mixture: true },
]

/** Whether a method is tried on a model. */
export const fits = ({ name, mixture, without = [] }: InteropModel, { method, on = [name], mixtures }: InteropMethod): boolean =>
  on.includes(name) && mixture === mixtures && !without.includes(method)

/** Models that differ in what a removed block or submodule leaves: windows, sequential and parallel residuals, norms on outputs. */
const shapes = ['sample model (Llama)', 'mistral-window', 'phi-tiny', 'gemma3', 'olmo2', 'qwen3_5']

/** Narrower MLPs and fewer attentions, also trained; whole blocks; submodules of either kind. */
export const methods: readonly InteropMethod[] = [
  { method: '2ssp', amount: { sparsity: 0.375 }, options: { windows: 4 } },
  { method: '2ssp', amount: { sparsity: 0.375 }, options: { windows: 4 }, recovers: 2 ** 14, on: ['sample model (Llama)'] },
  { method: 'shortgpt', amount: { blocks: 2 }, options: { windows: 4 }, on: shapes, types: ['F32', 'Q4_K_M'] },
  { method: 'blockpruner_submodule', amount: { sparsity: 0.375 }, options: { windows: 2 }, on: shapes, types: ['F32', 'Q4_K_M'] },
  { method: 'reap', amount: { sparsity: 0.2 }, options: { share: 0.25, windows: 4 }, mixtures: true },
]

/** How far an answer may be, relative: of the perplexity, and of any logit against the largest. */
export interface Bounds {
  readonly perplexity: number
  readonly logits: number
}

/** Of folders in transformers, and of float32 files in llama.cpp where a family has no wider bound. */
export const exactBounds: Bounds = { perplexity: 3e-6, logits: 1.5e-5 }

/**
 * GGUF types, with how far an answer of llama.cpp may be from that of the same file in this program: it also rounds what it multiplies the
 * weights with, to half precision or to 8 bits, which on these small random models shows.
 */
export const ggufBounds: Readonly<Record<string, Bounds>> = {
  F32: exactBounds,
  F16: { perplexity: 5e-4, logits: 1e-2 },
  BF16: { perplexity: 5e-3, logits: 6e-2 },
  Q8_0: { perplexity: 1.5e-2, logits: 0.2 },
  Q4_K_M: { perplexity: 1.5e-2, logits: 0.2 },
  Q4_0: { perplexity: 1.5e-2, logits: 0.2 },
}
