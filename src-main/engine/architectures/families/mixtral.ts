import { type Architecture, readHeadSize, readWindows } from '../common.ts'
import { all, llamaDialect, routes } from '../dialect.ts'
import { fusedExperts, mixtureOf, readExperts, separateExperts } from '../read-mixture.ts'
import { readRotary } from '../rotary-frequencies.ts'
import { readLlamaLike } from './llama.ts'

const names = { gate: 'w1', up: 'w3', down: 'w2' }

/** Mixtral (arXiv 2401.04088): Mistral's blocks, with experts under their own names. */
export const mixtral: Architecture = {
  modelType: 'mixtral',
  title: 'Mixtral',
  examples: 'Mixtral 8x7B and 8x22B',
  substitutesExperts: true,
  gguf: { own: { ...llamaDialect, problem: all(routes(true), llamaDialect.problem) } },
  read(config, layout, stored) {
    const hidden = config.integer('hidden_size')
    const experts = readExperts(config, {
      countKeys: ['num_local_experts'],
      count: 8,
      chosen: 2,
      widthKey: 'intermediate_size',
      width: 14336,
      renormalised: true,
    })
    const rotary = readRotary(config, readHeadSize(config), { theta: 1e6 })
    return readLlamaLike(config, layout, {
      epsilon: 1e-5,
      rotary: () => rotary,
      slidingWindow: readWindows(config, () => true),
      mixture: {
        ...experts,
        tensors(name, own) {
          const fused = stored(`${name}.mlp.experts.gate_up_proj`)
          const all = fused
            ? fusedExperts(`${name}.mlp.experts`, { hidden, layout: own })
            : separateExperts(`${name}.block_sparse_moe.experts`, { hidden, layout: own }, names)
          return mixtureOf(fused ? `${name}.mlp.gate` : `${name}.block_sparse_moe.gate`, all, hidden)
        },
      },
    })
  },
}
