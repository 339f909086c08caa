import { type Architecture, readHeadSize, readSliding, readWindows, slidingTypes } from './common.ts'
import { type LlamaTraits, readBiases, readLlamaLike } from './llama.ts'
import { readRotary } from './rotary.ts'

/** OLMo 2 (arXiv 2501.00656, section 3.2): norms on what submodules add, and over whole queries and keys. */
const traits: LlamaTraits = {
  norms: { attentionOutput: 'post_attention_layernorm', mlpOutput: 'post_feedforward_layernorm' },
  epsilon: 1e-5,
  queryKeyNorm: 'whole',
}

export const olmo2: Architecture = {
  read: (config, layout) => readLlamaLike(config, layout, { ...readBiases(config), ...traits }),
}

/** OLMo 3: three of four blocks attend within a window, where rotary embeddings are not scaled. */
export const olmo3: Architecture = {
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
