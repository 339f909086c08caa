import { at } from '#contract/at.ts'
import { type DecoderSpec, hasExperts } from '#engine/architectures/spec.ts'
import { attentionOf, blockOf, isAttention, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import type { GateList } from './gate-list.ts'
import type { GateGradients } from './gate-pass.ts'
import type { PartGates } from './gated-part.ts'

/** Returns the gradients of all gates for each window of a batch, [B][gates]. */
export function gradientsOfGates({ groups, count }: GateList, { parts }: GateGradients): Float64Array[] {
  const batch = [...parts.values()][0]?.output.length ?? 0
  return Array.from({ length: batch }, (_, window) => {
    const all = new Float64Array(count)
    for (const { kind, block, first, count: own } of groups) {
      const found = parts.get(kind === 'attention' ? attentionOf(block) : mlpOf(block))
      const values = kind === 'attention' ? found?.output : kind === 'experts' ? found?.experts : found?.inner
      if (!values) throw hasExperts()
      for (let i = 0; i < own; i++) all[first + i] = at(values, window * own + i)
    }
    return all
  })
}

/** What a block loses with one more gate: the gradients of a pass, summed up by what a plan can remove. */
export interface BlockGradients {
  readonly attention?: Float32Array
  /** One gate for each key/value head with its query heads, [B, K]. */
  readonly groups?: Float32Array
  /** Neurons [B, I] or experts [B, E], and the MLP as a whole. */
  readonly neurons?: Float32Array
  readonly experts?: Float32Array
  readonly mlp?: Float32Array
  /** Attention and MLP together. */
  readonly block: Float32Array
}

/** Returns the gradients of every kind of gate by block. Gates on larger units are sums of smaller ones, times the gates that are on these. */
export function gradientsByBlock(
  spec: DecoderSpec,
  { parts }: GateGradients,
  gatesOf: (part: Part) => PartGates,
): Map<number, BlockGradients> {
  const blocks = new Map<number, BlockGradients>()
  for (const [part, { inner, experts, output }] of [...parts].sort(([a], [b]) => a - b)) {
    const block = blockOf(part)
    const whole = output.map((value) => value * gatesOf(part).output)
    const before = blocks.get(block)
    const both = before ? before.block.map((value, window) => value + at(whole, window)) : whole
    const own = isAttention(part)
      ? { attention: output, groups: headGroups(spec, block, inner as Float32Array, output.length, gatesOf(part)) }
      : { mlp: output, ...(inner ? { neurons: inner } : {}), ...(experts ? { experts } : {}) }
    blocks.set(block, { ...before, ...own, block: both })
  }
  return blocks
}

/** Sums the gradients of the heads' outputs [B, H d] over each key/value head's query heads. */
function headGroups(spec: DecoderSpec, block: number, inner: Float32Array, batch: number, { inner: gates }: PartGates): Float32Array {
  const { delta } = spec.block(block)
  const groups = delta && spec.delta ? spec.delta.keyHeads : spec.keyValueHeads
  const factors = gates?.dataSync()
  const columns = inner.length / batch
  const size = columns / groups
  const sums = new Float32Array(batch * groups)
  for (const [i, value] of inner.entries()) {
    const column = i % columns
    const to = Math.floor(i / columns) * groups + Math.floor(column / size)
    sums[to] = at(sums, to) + value * (factors?.[column] ?? 1)
  }
  return sums
}
