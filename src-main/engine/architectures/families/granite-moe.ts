import type { Architecture } from '../common.ts'
import { type Dialect, expertEntries } from '../dialect.ts'
import { fusedExperts, mixtureOf, readExperts } from '../read-mixture.ts'
import { graniteDialect, readGraniteScales } from './granite.ts'
import { readBiases, readLlamaLike } from './llama.ts'

const dialect: Dialect = {
  ...graniteDialect,
  architecture: 'granitemoe',
  expertWidth: 'feed_forward_length',
  config: (keys, sizes) => ({ ...graniteDialect.config?.(keys, sizes), ...expertEntries(keys, sizes, 'num_local_experts') }),
}

/** Granite's blocks with experts in two tensors. Weights are a softmax over the chosen experts, which equals renormalising. */
export const graniteMoe: Architecture = {
  modelType: 'granitemoe',
  title: 'Granite MoE',
  examples: 'Granite 3.0 and 3.1 1B-A400M and 3B-A800M',
  gguf: { own: dialect },
  read(config, layout) {
    const hidden = config.integer('hidden_size')
    const experts = readExperts(config, {
      countKeys: ['num_local_experts'],
      count: 8,
      chosen: 2,
      widthKey: 'intermediate_size',
      renormalised: true,
    })
    return readLlamaLike(config, layout, {
      ...readBiases(config),
      scales: readGraniteScales(config),
      mixture: {
        ...experts,
        tensors(name, own) {
          const mixture = `${name}.block_sparse_moe`
          const tensors = { inner: `${mixture}.input_linear.weight`, down: `${mixture}.output_linear.weight` }
          return mixtureOf(`${mixture}.router.layer`, fusedExperts(mixture, { hidden, layout: own }, tensors), hidden)
        },
      },
    })
  },
}
