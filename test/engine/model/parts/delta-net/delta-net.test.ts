import { tensor2d, tensor3d } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { gatedDeltaRule } from '#engine/model/parts/delta-net/delta-net.ts'
import { gatedDeltaRuleBackward } from '#engine/model/parts/delta-net/delta-net-backward.ts'

await openBackend('tensorflow')

interface Inputs {
  readonly query: Float64Array
  readonly key: Float64Array
  readonly value: Float64Array
  readonly strength: Float64Array
  readonly decay: Float64Array
}

const [groups, keySize, valueSize] = [2, 5, 3]

/** The recurrence as the paper writes it (arXiv 2412.06464, Eq. 10), token by token in float64: [G, T, dv]. */
function readByStep({ query, key, value, strength, decay }: Inputs, tokens: number): Float64Array {
  const read = new Float64Array(groups * tokens * valueSize)
  for (let group = 0; group < groups; group++) {
    const state = new Float64Array(keySize * valueSize)
    for (let token = 0; token < tokens; token++) {
      const own = group * tokens + token
      for (let i = 0; i < state.length; i++) state[i] = at(state, i) * Math.exp(at(decay, own))
      for (let column = 0; column < valueSize; column++) {
        let known = 0
        for (let row = 0; row < keySize; row++) known += at(state, row * valueSize + column) * at(key, own * keySize + row)
        const written = at(strength, own) * (at(value, own * valueSize + column) - known)
        for (let row = 0; row < keySize; row++) {
          const place = row * valueSize + column
          state[place] = at(state, place) + at(key, own * keySize + row) * written
          read[own * valueSize + column] = at(read, own * valueSize + column) + at(state, place) * at(query, own * keySize + row)
        }
      }
    }
  }
  return read
}

const wave = (length: number, pace: number, of = (x: number) => x) => Float64Array.from({ length }, (_, i) => of(Math.sin(pace * (i + 1))))

/** One token, part of a chunk, a whole chunk, and several with a last one that is not full. */
describe.each([1, 37, 64, 150])('the gated delta rule over %i tokens', (tokens) => {
  const all = groups * tokens
  const inputs: Inputs = {
    query: wave(all * keySize, 1.3),
    key: wave(all * keySize, 0.7, (x) => x / 2),
    value: wave(all * valueSize, 2.1),
    strength: wave(all, 0.9, (x) => 0.5 + 0.4 * x),
    decay: wave(all, 1.7, (x) => -0.1 - 0.09 * x),
  }
  const outer = wave(all * valueSize, 0.37)
  const call = () => ({
    query: tensor3d(Float32Array.from(inputs.query), [groups, tokens, keySize]),
    key: tensor3d(Float32Array.from(inputs.key), [groups, tokens, keySize]),
    value: tensor3d(Float32Array.from(inputs.value), [groups, tokens, valueSize]),
    strength: tensor2d(Float32Array.from(inputs.strength), [groups, tokens]),
    decay: tensor2d(Float32Array.from(inputs.decay), [groups, tokens]),
  })

  test('reads what the recurrence gives token after token', () => {
    const own = gatedDeltaRule(call()).read.dataSync()
    for (const [i, value] of readByStep(inputs, tokens).entries()) expect(Math.abs(at(own, i) - value)).toBeLessThan(1e-5)
  })

  test('has the gradients of differences in float64', () => {
    const found = gatedDeltaRuleBackward(call(), tensor3d(Float32Array.from(outer), [groups, tokens, valueSize]))
    const loss = (changed: Inputs) => readByStep(changed, tokens).reduce((sum, value, i) => sum + value * at(outer, i), 0)
    for (const name of ['query', 'key', 'value', 'strength', 'decay'] as const) {
      const own = found[name].dataSync()
      const moved = (i: number, by: number) => ({ ...inputs, [name]: inputs[name].with(i, at(inputs[name], i) + by) })
      for (let i = 0; i < own.length; i += Math.ceil(own.length / 40)) {
        const slope = (loss(moved(i, 1e-5)) - loss(moved(i, -1e-5))) / 2e-5
        expect(Math.abs(at(own, i) - slope), `${name} ${i}`).toBeLessThan(2e-5 * (1 + Math.abs(slope)))
      }
    }
  })
})
