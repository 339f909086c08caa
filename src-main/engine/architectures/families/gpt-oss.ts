import { type Architecture, readHeadSize, readSliding, readWindows, slidingTypes } from '../common.ts'
import { all, allMixtures, type Dialect, expertEntries, plain, windowTypes } from '../dialect.ts'
import { mixtureOf, readExperts, separateExperts } from '../read-mixture.ts'
import { readRotary } from '../rotary-frequencies.ts'
import type { DecoderSpec } from '../spec.ts'
import { readLlamaLike } from './llama.ts'

const limits = { most: 7, slope: 1.702 }

/** Checks the limits on neurons and the sliding windows, which llama.cpp fixes for this family, whatever the file says. */
const fixed = ({ blocks, neuronLimit, slidingWindow }: DecoderSpec): string | undefined => {
  if (neuronLimit?.most !== limits.most || neuronLimit.slope !== limits.slope)
    return `llama.cpp limits neurons at ${limits.most} with a slope of ${limits.slope} here, but this model does not`
  if (blocks.every((_, index) => (slidingWindow(index) !== undefined) === (index % 2 === 0))) return undefined
  return 'llama.cpp has a window in every other block here, but this model has windows in other blocks'
}

const dialect: Dialect = {
  ...plain,
  architecture: 'gpt-oss',
  norms: { attentionNorm: 'attn_norm', mlpNorm: 'post_attention_norm' },
  needsHead: true,
  windows: 'list',
  expertWidth: 'expert_feed_forward_length',
  keepsPlaces: true,
  wholeYarn: false,
  problem: all(allMixtures, fixed),
  config: (keys, sizes) => ({
    ...expertEntries(keys, sizes, 'num_local_experts'),
    layer_types: windowTypes(keys, sizes.blocks, 2),
  }),
}

/** gpt-oss (arXiv 2508.10925): attention sinks, biases everywhere, and neurons whose gates and ups have limits. */
export const gptOss: Architecture = {
  modelType: 'gpt_oss',
  title: 'gpt-oss',
  examples: 'gpt-oss 20B and 120B',
  gguf: { own: dialect },
  read(config, layout) {
    const hidden = config.integer('hidden_size')
    const experts = readExperts(config, {
      countKeys: ['num_local_experts'],
      count: 128,
      chosen: 4,
      widthKey: 'intermediate_size',
      width: 2880,
      renormalised: true,
    })
    const rotary = readRotary(config, readHeadSize(config), { theta: 150_000 })
    const sliding = readSliding(config, (index) => index % 2 === 0)
    const bias = config.boolean('attention_bias', true)
    return readLlamaLike(config, layout, {
      queryKeyValueBias: bias,
      outputBias: bias,
      epsilon: 1e-5,
      sinks: true,
      interleavesExperts: true,
      neuronLimit: { most: config.number('swiglu_limit', limits.most), slope: config.number('swiglu_alpha', limits.slope) },
      rotary: () => rotary,
      slidingWindow: readWindows(config, sliding),
      perBlock: slidingTypes(config, sliding),
      mixture: {
        ...experts,
        tensors(name, own) {
          const all = separateExperts(`${name}.mlp.experts`, { hidden, layout: own }, undefined, true)
          const mixture = mixtureOf(`${name}.mlp.router`, all, hidden)
          return { ...mixture, router: { ...mixture.router, bias: `${name}.mlp.router.bias` } }
        },
      },
    })
  },
}
