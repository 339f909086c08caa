import {
  concat,
  mul,
  pad,
  reshape,
  sigmoid,
  slice,
  softplus,
  stack,
  sub,
  sum,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  transpose,
} from '@tensorflow/tfjs-core'
import type { DeltaShape } from '#engine/architectures/spec.ts'
import { byHead, byToken, type DeltaWeights, leadToRule, unit } from '#engine/model/delta-net.ts'
import { neuronsBackward } from '#engine/tensor/activation.ts'
import { gatedDeltaRule } from '#engine/tensor/delta-rule.ts'
import { gatedDeltaRuleBackward, sumOf } from '#engine/tensor/delta-rule-backward.ts'
import { normalizeBackward, normalizeGroups, normalizeGroupsBackward } from '#engine/tensor/norm.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import type { Gradients } from './gradients.ts'

type Led = ReturnType<typeof leadToRule>

/**
 * Returns the gradients of `mixByDelta` without a memory, given that of its result, [N, Hv dv]: those of its projected input, and of the
 * tensors of the DeltaNet as a checkpoint stores them. Everything up to the result is computed again.
 */
export function mixByDeltaBackward(
  projected: Tensor2D,
  weights: DeltaWeights,
  shape: DeltaShape,
  batch: number,
  gradient: Tensor2D,
): { readonly projected: Tensor2D; readonly gradients: Gradients } {
  return tidied(() => {
    const led = leadToRule(projected, weights, shape, batch)
    const read = byToken(gatedDeltaRule(led.rule).read, batch)
    const gated = neuronsBackward(led.gates, normalizeGroups(read, weights.readNorm), 'silu', gradient)
    const behind = normalizeGroupsBackward(read, weights.readNorm, gated.up)
    const by = gatedDeltaRuleBackward(
      led.rule,
      byHead(reshape(behind.x, [batch, -1, behind.x.shape[1]]), shape.valueHeads, shape.valueSize, shape.valueHeads),
    )
    const joined = [
      joinHeads(unitBackward(led.query, mul(by.query, 1 / Math.sqrt(shape.keySize))), shape.keyHeads, batch),
      joinHeads(unitBackward(led.key, by.key), shape.keyHeads, batch),
      byToken(by.value, batch),
    ]
    const { inputs, weights: convolution } = convolveBackward(led, weights.convolution, concat(joined, 1))
    const perToken = (x: Tensor2D): Tensor2D => byToken(reshape(x, [...x.shape, 1]), batch)
    const strength = perToken(led.rule.strength)
    const byStrength: Tensor2D = mul(perToken(by.strength), mul(strength, sub(1, strength)))
    const decay = perToken(by.decay)
    const byRate: Tensor2D = mul(mul(decay, weights.decayRate), sigmoid(led.rates))
    return {
      projected: concat([inputs, gated.gate as Tensor2D, byStrength, byRate], 1),
      gradients: {
        convolution,
        // The rate is minus the exponent of the stored value.
        decay: mul<Tensor1D>(sum(mul(decay, softplus(led.rates)), 0), weights.decayRate),
        rateBias: sum<Tensor1D>(byRate, 0),
        readNorm: behind.weight,
      },
    }
  })
}

/** Returns the gradient before vectors [G, T, d] were scaled to length one. */
function unitBackward(x: Tensor3D, gradient: Tensor3D): Tensor3D {
  const rows = (one: Tensor3D): Tensor2D => reshape(one, [-1, x.shape[2]])
  return reshape(normalizeBackward(rows(x), unit, rows(gradient)).x, x.shape)
}

/** Sums x [B * Hv, T, d] over the value heads that share a key head: [B*T, heads * d]. */
function joinHeads(x: Tensor3D, heads: number, batch: number): Tensor2D {
  const [all, tokens, size] = x.shape
  const served = reshape(x, [batch * heads, all / batch / heads, tokens, size])
  return byToken(sum<Tensor3D>(served, 1), batch)
}

/** Returns the gradients of the convolution, given that of the SiLU after it, [N, channels]. */
function convolveBackward(
  { sum: sums, all }: Led,
  weights: Tensor2D,
  gradient: Tensor2D,
): { readonly inputs: Tensor2D; readonly weights: Tensor2D } {
  const [batch, long, channels] = all.shape
  const before = weights.shape[1] - 1
  const tokens = long - before
  const bySums: Tensor3D = reshape(neuronsBackward(undefined, sums, 'silu', gradient).up, [batch, tokens, channels])
  const taps = Array.from({ length: before + 1 }, (_, tap) => tap)
  const byTaps = taps.map((tap): Tensor1D => sum(mul(bySums, slice(all, [0, tap, 0], [-1, tokens, -1])), [0, 1]))
  // Each sum reads the inputs up to its own position, so an input is read by the sums at its own position and those shortly after it.
  const later: Tensor3D = pad(bySums, [
    [0, 0],
    [0, before],
    [0, 0],
  ])
  const terms = taps.map((tap): Tensor3D => {
    const weight: Tensor1D = reshape(slice(weights, [0, tap], [-1, 1]), [channels])
    return mul(slice(later, [0, before - tap, 0], [-1, tokens, -1]), weight)
  })
  return { inputs: reshape(sumOf(...terms), [batch * tokens, channels]), weights: transpose(stack(byTaps) as Tensor2D) }
}
