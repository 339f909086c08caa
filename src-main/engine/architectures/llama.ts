import type { Rotary } from '#engine/tensor/rotary.ts'
import { type Architecture, linear, readActivation, readSizes } from './common.ts'
import type { ConfigReader } from './config-reader.ts'
import { type Place, usualPlace } from './place.ts'
import { readRotary } from './rotary.ts'
import type { BlockTensors, DecoderSpec, NormTensors } from './spec.ts'

/** Names of the norms around a block's submodules; one that a family lacks is left out. */
export interface NormNames {
  readonly attention?: string
  readonly attentionOutput?: string
  readonly mlp?: string
  readonly mlpOutput?: string
}

const before: NormNames = { attention: 'input_layernorm', mlp: 'post_attention_layernorm' }

/** What sets the families with Llama's tensor names apart; what is left out is as in Llama. */
export interface LlamaTraits {
  readonly queryKeyValueBias?: boolean
  readonly outputBias?: boolean
  readonly mlpBias?: boolean
  readonly norms?: NormNames
  readonly epsilon?: number
  readonly normOffset?: number
  /** Norms on queries and keys: of each head, or of all heads at once. */
  readonly queryKeyNorm?: 'head' | 'whole'
  readonly activation?: DecoderSpec['activation']
  readonly tied?: boolean
  readonly rotary?: (index: number) => Rotary
  readonly slidingWindow?: (index: number) => number | undefined
  readonly scales?: Pick<DecoderSpec, 'scoreCap' | 'residualScale' | 'embeddingScale' | 'logitScale' | 'logitCap'> & { scoreScale?: number }
  /** Where embedding, blocks, final norm and head are found when not under Llama's names. */
  readonly place?: Place
}

/** A spec for checkpoints with Llama's tensor names: RMSNorm, gated MLP, sequential residual, separate projections. */
export function readLlamaLike(config: ConfigReader, layout: DecoderSpec['blocks'] | undefined, traits: LlamaTraits = {}): DecoderSpec {
  const sizes = readSizes(config, layout)
  const { prefix, head } = traits.place ?? usualPlace
  const everywhere = readRotary(config, sizes.headSize)
  const embedding = `${prefix}embed_tokens.weight`
  return {
    family: config.text('model_type'),
    ...sizes,
    ...traits.scales,
    norm: { kind: 'rms', epsilon: config.number('rms_norm_eps', traits.epsilon ?? 1e-6), ...offsetOf(traits) },
    activation: traits.activation ?? readActivation(config),
    parallelResidual: false,
    rotary: traits.rotary ?? (() => everywhere),
    slidingWindow: traits.slidingWindow ?? (() => undefined),
    embedding,
    finalNorm: { weight: `${prefix}norm.weight` },
    head: { weight: config.boolean('tie_word_embeddings', traits.tied ?? false) ? embedding : head },
    block: (index) => blockTensors(`${prefix}layers.${index}`, sizes.blocks[index]?.width || sizes.intermediate, sizes, traits),
  }
}

const offsetOf = ({ normOffset }: LlamaTraits): { offset?: number } => (normOffset === undefined ? {} : { offset: normOffset })

function blockTensors(name: string, width: number, sizes: ReturnType<typeof readSizes>, traits: LlamaTraits): BlockTensors {
  const { hidden, heads, keyValueHeads, headSize } = sizes
  const { norms = before, queryKeyNorm, queryKeyValueBias: bias, outputBias, mlpBias } = traits
  const norm = (key: 'attentionNorm' | 'attentionOutputNorm' | 'mlpNorm' | 'mlpOutputNorm', own: string | undefined) =>
    own === undefined ? {} : { [key]: { weight: `${name}.${own}.weight` } }
  const headNorm = (key: 'queryNorm' | 'keyNorm', own: string, count: number): { [key: string]: NormTensors } =>
    queryKeyNorm
      ? { [key]: { weight: `${name}.self_attn.${own}.weight`, size: queryKeyNorm === 'head' ? headSize : count * headSize } }
      : {}
  return {
    ...norm('attentionNorm', norms.attention),
    query: linear(`${name}.self_attn.q_proj`, heads * headSize, hidden, bias),
    key: linear(`${name}.self_attn.k_proj`, keyValueHeads * headSize, hidden, bias),
    value: linear(`${name}.self_attn.v_proj`, keyValueHeads * headSize, hidden, bias),
    ...headNorm('queryNorm', 'q_norm', heads),
    ...headNorm('keyNorm', 'k_norm', keyValueHeads),
    output: linear(`${name}.self_attn.o_proj`, hidden, heads * headSize, outputBias),
    ...norm('attentionOutputNorm', norms.attentionOutput),
    ...norm('mlpNorm', norms.mlp),
    gate: linear(`${name}.mlp.gate_proj`, width, hidden, mlpBias),
    up: linear(`${name}.mlp.up_proj`, width, hidden, mlpBias),
    down: linear(`${name}.mlp.down_proj`, hidden, width, mlpBias),
    ...norm('mlpOutputNorm', norms.mlpOutput),
  }
}

/** Biases that a config switches on for all of attention, and for all of the MLP. */
export function readBiases(config: ConfigReader): LlamaTraits {
  const bias = config.boolean('attention_bias', false)
  return { queryKeyValueBias: bias, outputBias: bias, mlpBias: config.boolean('mlp_bias', false) }
}

export const llama: Architecture = {
  title: 'Llama',
  modelType: 'llama',
  examples: 'Llama 2, 3, 3.1 and 3.2, SmolLM 1 and 2, TinyLlama, DeepSeek-R1-Distill-Llama',
  read: (config, layout) => readLlamaLike(config, layout, readBiases(config)),
}
