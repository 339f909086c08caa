import { type Architecture, readHeadSize, readSliding, readWindows, slidingTypes } from './common.ts'
import { readLlamaLike } from './llama.ts'
import { mixtureOf, readExperts, separateExperts } from './mixture.ts'
import { readRotary } from './rotary.ts'

/** gpt-oss (arXiv 2508.10925): sinks in attention, biases everywhere, and neurons whose gates and ups have limits. */
export const gptOss: Architecture = {
  title: 'gpt-oss',
  examples: 'gpt-oss 20B and 120B',
  read(config, layout) {
    const hidden = config.integer('hidden_size')
    const { router, experts, width } = readExperts(config, {
      countKeys: ['num_local_experts'],
      count: 128,
      chosen: 4,
      widthKey: 'intermediate_size',
      width: 2880,
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
      neuronLimit: { most: config.number('swiglu_limit', 7), slope: config.number('swiglu_alpha', 1.702) },
      rotary: () => rotary,
      slidingWindow: readWindows(config, sliding),
      perBlock: slidingTypes(config, sliding),
      mixture: {
        router: { ...router, scores: 'softmax', renormalised: true },
        experts,
        width,
        tensors(name, own) {
          const all = separateExperts(`${name}.mlp.experts`, { hidden, layout: own }, undefined, true)
          const mixture = mixtureOf(`${name}.mlp.router`, all, hidden)
          return { ...mixture, router: { ...mixture.router, bias: `${name}.mlp.router.bias` } }
        },
      },
    })
  },
}
