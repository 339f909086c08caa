import { type Architecture, readActivation, readHeadSize, readSliding, readWindows, slidingTypes } from './common.ts'
import type { ConfigReader } from './config-reader.ts'
import { type LlamaTraits, readBiases, readLlamaLike } from './llama.ts'
import { findPlace, type Place, textConfigOf } from './place.ts'
import { readRotary } from './rotary.ts'
import type { DecoderSpec } from './spec.ts'

/** What Gemma 2 and 3 share: norms that multiply by 1 + w on both sides of a submodule, scaled embeddings, a score scale of their own. */
function sharedTraits(config: ConfigReader): LlamaTraits {
  config.refuse('use_bidirectional_attention', true, 'attention in both directions makes no language model')
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
      ...(scoreCap === undefined ? {} : { scoreCap }),
      ...(logitCap === undefined ? {} : { logitCap }),
    },
  }
}

export const gemma2: Architecture = {
  read(config, layout) {
    const sliding = readSliding(config, (index) => index % 2 === 0)
    return readLlamaLike(config, layout, {
      ...sharedTraits(config),
      slidingWindow: readWindows(config, sliding),
      perBlock: slidingTypes(config, sliding),
    })
  },
}

/** Gemma 3 (arXiv 2503.19786, section 2): five of six blocks attend within a window, with a rotary base of their own that is not scaled. */
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

export const gemma3Text: Architecture = {
  read: (config, layout) => readGemma3(config, layout),
}

// Published files leave out what holds for the first of these models.
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

/** The text part of Gemma 3 with images. */
export const gemma3: Architecture = {
  textConfig: describeText,
  read: (config, layout, stored) => readGemma3(config.textPart(describeText), layout, findPlace(stored)),
}
