import { type Architecture, readHeadSize, readSliding, readWindows, slidingTypes } from '../common.ts'
import { all, plain, silu } from '../dialect.ts'
import { readRotary, unrotated } from '../rotary-frequencies.ts'
import type { DecoderSpec } from '../spec.ts'
import { readBiases, readLlamaLike } from './llama.ts'

/** llama.cpp never rotates every fourth block, whatever the file says. */
const everyFourth = ({ blocks, rotary }: DecoderSpec): string | undefined => {
  const isRotated = (index: number) =>
    rotary(index)
      .frequencies(1)
      .inverse.some((value) => value !== 0)
  return blocks.every((_, index) => isRotated(index) === ((index + 1) % 4 !== 0))
    ? undefined
    : 'llama.cpp leaves every fourth block without positions, but in this model other blocks have none'
}

/** SmolLM3 uses rotary embeddings in most blocks. The other blocks know positions only from the causal order. */
export const smollm3: Architecture = {
  modelType: 'smollm3',
  title: 'SmolLM3',
  examples: 'SmolLM3-3B',
  gguf: { own: { ...plain, architecture: 'smollm3', interleaved: true, keepsPlaces: true, problem: all(everyFourth, silu) } },
  read(config, layout) {
    const rotary = readRotary(config, readHeadSize(config), { theta: 2_000_000 })
    const interval = config.integer('no_rope_layer_interval', 4)
    const flags = config.flags('no_rope_layers', config.integer('num_hidden_layers'))
    const rotates = (index: number) => (flags ? flags[index] === true : (index + 1) % interval !== 0)
    const slides = config.boolean('use_sliding_window', false)
    const sliding = readSliding(config, (index) => !rotates(index))
    const indices = Array.from({ length: config.integer('num_hidden_layers') }, (_, index) => index)
    return readLlamaLike(config, layout, {
      ...readBiases(config),
      tied: true,
      perBlock: {
        no_rope_layers: indices.map((index) => (rotates(index) ? 1 : 0)),
        ...(config.has('layer_types') ? slidingTypes(config, sliding) : {}),
      },
      rotary: (index) => (rotates(index) ? rotary : unrotated),
      slidingWindow: readWindows(config, (index) => slides && sliding(index)),
    })
  },
}
