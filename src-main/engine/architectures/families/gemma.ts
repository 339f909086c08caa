import { type Architecture, readActivation, readHeadSize, readSliding, readWindows, slidingTypes } from '../common.ts'
import type { ConfigReader } from '../config-reader.ts'
import { behind, type Dialect, inner, plain, windowTypes } from '../dialect.ts'
import { readRotary } from '../rotary-frequencies.ts'
import { type DecoderSpec, findPlace, type Place, textConfigOf } from '../spec.ts'
import { type LlamaTraits, readBiases, readLlamaLike } from './llama.ts'

/**
 * Traits that Gemma 2 and 3 share: norms that multiply by 1 + w on both sides of a submodule, scaled embeddings, and a score scale from the
 * config.
 */
function sharedTraits(config: ConfigReader): LlamaTraits {
  config.refuse('use_bidirectional_attention', true, 'a model with attention in both directions is not a language model')
  const [scoreCap, logitCap] = [config.optionalNumber('attn_logit_softcapping'), config.optionalNumber('final_logit_softcapping')]
  return {
    ...readBiases(config),
    norms: {
      attention: 'input_layernorm',
      attentionOutput: 'post_attention_layernorm',
      mlp: 'pre_feedforward_layernorm',
      mlpOutput: 'post_feedforward_layernorm',
    },
    normOffset: 1,
    activation: readActivation(config, ['hidden_activation', 'hidden_act'], 'gelu_pytorch_tanh'),
    tied: true,
    scales: {
      embeddingScale: Math.sqrt(config.integer('hidden_size')),
      scoreScale: 1 / Math.sqrt(config.number('query_pre_attn_scalar', 256)),
      questionsBegin: true,
      ...(scoreCap === undefined ? {} : { scoreCap }),
      ...(logitCap === undefined ? {} : { logitCap }),
    },
  }
}

/**
 * llama.cpp computes the scale of scores itself, with another formula for the largest model of each version, which it recognises by its
 * number of blocks.
 */
function gemmaDialect(architecture: string, largest: number, pattern: number): Dialect {
  return {
    ...plain,
    architecture,
    norms: { ...plain.norms, ...behind },
    windows: 'list',
    problem({ blocks, headSize, heads, hidden, scoreScale }) {
      const expected = 1 / Math.sqrt(blocks.length === largest ? hidden / heads : headSize)
      return Math.abs(scoreScale / expected - 1) < 1e-6
        ? undefined
        : `llama.cpp multiplies scores by ${expected.toPrecision(4)} here, but this model by ${scoreScale.toPrecision(4)}`
    },
    config: (keys, { blocks, hidden, heads, headSize }) => ({
      hidden_activation: 'gelu_pytorch_tanh',
      query_pre_attn_scalar: blocks === largest ? hidden / heads : headSize,
      attn_logit_softcapping: keys.optionalNumber('attn_logit_softcapping') ?? null,
      final_logit_softcapping: keys.optionalNumber('final_logit_softcapping') ?? null,
      layer_types: windowTypes(keys, blocks, pattern),
    }),
  }
}

export const gemma2: Architecture = {
  modelType: 'gemma2',
  title: 'Gemma 2',
  examples: 'Gemma 2 2B, 9B and 27B',
  gguf: { own: gemmaDialect('gemma2', 46, 2) },
  read(config, layout) {
    const sliding = readSliding(config, (index) => index % 2 === 0)
    return readLlamaLike(config, layout, {
      ...sharedTraits(config),
      slidingWindow: readWindows(config, sliding),
      perBlock: slidingTypes(config, sliding),
    })
  },
}

/**
 * Gemma 3 (arXiv 2503.19786, section 2): five of every six blocks attend within a window and have their own rotary base, without scaling.
 */
function readGemma3(config: ConfigReader, layout: DecoderSpec['blocks'] | undefined, place?: Place): DecoderSpec {
  const headSize = readHeadSize(config)
  const full = readRotary(config, headSize, { theta: 1_000_000, blocks: 'full_attention' })
  const local = readRotary(config, headSize, { thetaKey: 'rope_local_base_freq', blocks: 'sliding_attention', scaled: false })
  const pattern = config.integer('sliding_window_pattern', 6)
  const sliding = readSliding(config, (index) => (index + 1) % pattern !== 0)
  return readLlamaLike(config, layout, {
    ...sharedTraits(config),
    ...(place ? { place } : {}),
    queryKeyNorm: 'head',
    rotary: (index) => (sliding(index) ? local : full),
    slidingWindow: readWindows(config, sliding),
    perBlock: slidingTypes(config, sliding),
  })
}

const shared = gemmaDialect('gemma3', 62, 6)
const gemma3Dialect: Dialect = {
  ...shared,
  family: 'gemma3_text',
  norms: { ...shared.norms, ...inner },
  config: (keys, sizes) => ({
    ...shared.config?.(keys, sizes),
    rope_local_base_freq: keys.optionalNumber('rope.freq_base_swa') ?? 10000,
  }),
}

export const gemma3Text: Architecture = {
  modelType: 'gemma3_text',
  title: 'Gemma 3',
  examples: 'Gemma 3 270M and 1B',
  gguf: { own: gemma3Dialect },
  read: (config, layout) => readGemma3(config, layout),
}

// The published configs omit values that are equal to those of the first model of the family.
const usualText = {
  architectures: ['Gemma3ForCausalLM'],
  model_type: 'gemma3_text',
  vocab_size: 262_208,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  max_position_embeddings: 131_072,
}

const describeText = (config: Record<string, unknown>) => textConfigOf(config, usualText)

/** The text part of Gemma 3 models that also read images. */
export const gemma3: Architecture = {
  modelType: 'gemma3',
  title: 'Gemma 3 with images, its text part',
  examples: 'Gemma 3 4B, 12B and 27B',
  gguf: { own: gemma3Dialect },
  textConfig: describeText,
  read: (config, layout, stored) => readGemma3(config.textPart(describeText), layout, findPlace(stored)),
}
