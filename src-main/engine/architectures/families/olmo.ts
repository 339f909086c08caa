import { type Architecture, readHeadSize, readSliding, readWindows, slidingTypes } from '../common.ts'
import { behind, type Dialect, inner, plain, windowTypes } from '../dialect.ts'
import { readRotary } from '../rotary-frequencies.ts'
import { type LlamaTraits, readBiases, readLlamaLike } from './llama.ts'

/** OLMo 2 (arXiv 2501.00656, section 3.2): norms on the outputs of submodules, and over whole queries and keys. */
const traits: LlamaTraits = {
  norms: { attentionOutput: 'post_attention_layernorm', mlpOutput: 'post_feedforward_layernorm' },
  epsilon: 1e-5,
  queryKeyNorm: 'whole',
}

// In a GGUF file, OLMo 3 has the architecture olmo2, with windows.
const dialect: Dialect = {
  ...plain,
  architecture: 'olmo2',
  family: 'olmo2',
  norms: { ...behind, ...inner },
  windows: 'list',
  config: (keys, { blocks }) =>
    keys.has('attention.sliding_window') ? { model_type: 'olmo3', layer_types: windowTypes(keys, blocks, 4) } : {},
}

export const olmo2: Architecture = {
  modelType: 'olmo2',
  title: 'OLMo 2',
  examples: 'OLMo 2 1B, 7B, 13B and 32B',
  gguf: { own: dialect },
  read: (config, layout) => readLlamaLike(config, layout, { ...readBiases(config), ...traits }),
}

/** OLMo 3: three of every four blocks attend within a window and have unscaled rotary embeddings. */
export const olmo3: Architecture = {
  modelType: 'olmo3',
  title: 'OLMo 3',
  examples: 'OLMo 3 7B and 32B',
  gguf: { own: dialect },
  read(config, layout) {
    const headSize = readHeadSize(config)
    const full = readRotary(config, headSize, { theta: 500_000, blocks: 'full_attention' })
    const local = readRotary(config, headSize, { theta: 500_000, blocks: 'sliding_attention', scaled: false })
    const sliding = readSliding(config, (index) => (index + 1) % 4 !== 0)
    return readLlamaLike(config, layout, {
      ...readBiases(config),
      ...traits,
      rotary: (index) => (sliding(index) ? local : full),
      slidingWindow: readWindows(config, sliding),
      perBlock: slidingTypes(config, sliding),
    })
  },
}
