import type { Rotary } from '#engine/tensor/rotary.ts'
import { type Architecture, linear, readActivation, readSizes } from '../common.ts'
import type { ConfigReader } from '../config-reader.ts'
import { deci, llamaDialect } from '../dialect.ts'
import { gatedMlp, type MixtureTraits } from '../read-mixture.ts'
import { readRotary } from '../rotary-frequencies.ts'
import { type BlockTensors, type DecoderSpec, defined, type NormTensors, type Place, usualPlace } from '../spec.ts'

/** Names of the norms around a block's submodules, without those that a family lacks. */
interface NormNames {
  readonly attention?: string
  readonly attentionOutput?: string
  readonly mlp?: string
  readonly mlpOutput?: string
}

const before: NormNames = { attention: 'input_layernorm', mlp: 'post_attention_layernorm' }

/** How a family with Llama's tensor names differs from Llama. Omitted fields are as in Llama. */
export interface LlamaTraits {
  readonly queryKeyValueBias?: boolean
  readonly outputBias?: boolean
  readonly mlpBias?: boolean
  readonly norms?: NormNames
  readonly epsilon?: number
  readonly normOffset?: number
  /** Whether each head has a sink. */
  readonly sinks?: true
  readonly neuronLimit?: DecoderSpec['neuronLimit']
  readonly interleavesExperts?: true
  /** Norms on queries and keys: over each head, or over all heads together. */
  readonly queryKeyNorm?: 'head' | 'whole'
  readonly projectionLimit?: number | undefined
  readonly activation?: DecoderSpec['activation']
  readonly tied?: boolean
  readonly rotary?: (index: number) => Rotary
  readonly slidingWindow?: (index: number) => number | undefined
  readonly scales?: Pick<
    DecoderSpec,
    'scoreCap' | 'questionsBegin' | 'residualScale' | 'embeddingScale' | 'logitScale' | 'logitCap' | 'delta'
  > & {
    scoreScale?: number
  }
  readonly perBlock?: Readonly<Record<string, readonly unknown[]>>
  readonly gatedQueries?: boolean
  /**
   * Returns the token mixer that replaces attention in block `index`, whose tensors begin with `name`; undefined if the block has
   * attention.
   */
  readonly mixer?: (index: number, name: string) => Mixer | undefined
  /** The mixture that replaces the dense MLP in some or all blocks. */
  readonly mixture?: MixtureTraits
  /** The names of embedding, blocks, final norm and head, if they are not Llama's. */
  readonly place?: Place
}

export type Mixer = Pick<BlockTensors, 'query' | 'key' | 'value' | 'queryNorm' | 'keyNorm' | 'delta' | 'sinks' | 'output'>

/** Reads the spec of a checkpoint with Llama's tensor names: RMSNorm, gated MLP, sequential residual, separate projections. */
export function readLlamaLike(config: ConfigReader, layout: DecoderSpec['blocks'] | undefined, traits: LlamaTraits = {}): DecoderSpec {
  const sizes = readSizes(config, layout, traits.mixture)
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
    ...defined({
      gatedQueries: traits.gatedQueries,
      perBlock: traits.perBlock,
      neuronLimit: traits.neuronLimit,
      projectionLimit: traits.projectionLimit,
      interleavesExperts: traits.interleavesExperts,
      router: traits.mixture?.router,
    }),
    block(index, named = index) {
      const name = `${prefix}layers.${named}`
      const mixer = traits.mixer?.(index, name) ?? attentionTensors(`${name}.self_attn`, sizes, traits)
      return { ...mixer, ...normTensors(name, traits), ...mlpTensors(name, index, sizes, traits) }
    },
  }
}

const offsetOf = ({ normOffset }: LlamaTraits): { offset?: number } => (normOffset === undefined ? {} : { offset: normOffset })

function attentionTensors(name: string, sizes: ReturnType<typeof readSizes>, traits: LlamaTraits): Mixer {
  const { hidden, heads, keyValueHeads, headSize } = sizes
  const { queryKeyNorm, queryKeyValueBias: bias, outputBias, gatedQueries, sinks } = traits
  const norm = (own: string, count: number): NormTensors => ({
    weight: `${name}.${own}.weight`,
    size: queryKeyNorm === 'head' ? headSize : count * headSize,
  })
  return {
    query: linear(`${name}.q_proj`, heads * headSize * (gatedQueries ? 2 : 1), hidden, bias),
    key: linear(`${name}.k_proj`, keyValueHeads * headSize, hidden, bias),
    value: linear(`${name}.v_proj`, keyValueHeads * headSize, hidden, bias),
    ...(queryKeyNorm ? { queryNorm: norm('q_norm', heads), keyNorm: norm('k_norm', keyValueHeads) } : {}),
    ...(sinks ? { sinks: { weight: `${name}.sinks`, shape: [heads] } } : {}),
    output: linear(`${name}.o_proj`, hidden, heads * headSize, outputBias),
  }
}

/** The norms around a block's submodules. */
function normTensors(name: string, { norms = before }: LlamaTraits) {
  const norm = (own: string | undefined): NormTensors | undefined => (own === undefined ? undefined : { weight: `${name}.${own}.weight` })
  return defined({
    attentionNorm: norm(norms.attention),
    attentionOutputNorm: norm(norms.attentionOutput),
    mlpNorm: norm(norms.mlp),
    mlpOutputNorm: norm(norms.mlpOutput),
  })
}

/** The MLP of block `index`, or its mixture. If it was removed, the tensors that the family would have there. */
function mlpTensors(name: string, index: number, sizes: ReturnType<typeof readSizes>, { mixture, mlpBias }: LlamaTraits) {
  const { hidden, intermediate, blocks } = sizes
  const { width, ...layout } = blocks[index] ?? { attention: true, width: 0 }
  const mixes = width > 0 ? layout.experts !== undefined : mixture?.mixes?.(index) !== false
  if (mixture && mixes) {
    const experts = layout.experts ?? mixture.experts
    return { mixture: mixture.tensors(name, { ...layout, experts, width: width || mixture.width }) }
  }
  return gatedMlp(`${name}.mlp`, width || intermediate, hidden, undefined, mlpBias)
}

/** Biases that a config turns on for all of attention, and for all of the MLP. */
export function readBiases(config: ConfigReader): LlamaTraits {
  const bias = config.boolean('attention_bias', false)
  return { queryKeyValueBias: bias, outputBias: bias, mlpBias: config.boolean('mlp_bias', false) }
}

export const llama: Architecture = {
  modelType: 'llama',
  title: 'Llama',
  examples: 'Llama 2, 3, 3.1, 3.2 and 3.3, SmolLM 1 and 2, TinyLlama, DeepSeek-R1-Distill-Llama',
  gguf: { own: llamaDialect, perBlock: deci },
  read: (config, layout) => readLlamaLike(config, layout, readBiases(config)),
}
