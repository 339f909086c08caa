import { add, matMul, mean, mul, reshape, sub, type Tensor1D, type Tensor2D, tensor2d, tidy, transpose } from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import type { SlicePlan } from '#contract/plan.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import type { Model } from './model.ts'
import type { DecoderSpec } from './spec.ts'
import { ModelView } from './view.ts'
import { type AttentionWeights, blockOf, isAttention, type MlpWeights, type Part, type PartWeights, presentParts } from './weights.ts'

/** Tensors that belong to a plan, by name. */
export type PlanTensors = ReadonlyMap<string, { readonly values: Float32Array | Float64Array; readonly shape: readonly number[] }>

/**
 * SliceGPT (arXiv 2401.15024): the stream between submodules is turned by an orthogonal matrix and keeps its first d coordinates.
 * A rotation [D, d] stands in front of each part that adds to a stream of its own: every part, or each block's attention where the
 * MLP runs in parallel. Behind the last part the stream has all D coordinates again.
 */
export const rotationName = (part: Part): string => `rotation.${part}`
/** What embeddings are multiplied by: the first rotation, with the mean of each row taken off before where the method does so. */
export const embeddingRotationName = 'rotation.embedding'

/** Parts with a rotation in front, in running order. */
export function rotatedParts(spec: DecoderSpec): Part[] {
  return spec.parallelResidual ? presentParts(spec).filter(isAttention) : presentParts(spec)
}

/** How one part of a sliced model is made from the dense one. */
export interface PartSlice {
  /** [D, d]. */
  readonly input: Tensor2D
  /** [D, d], or undefined where the output keeps all D coordinates. */
  readonly output: Tensor2D | undefined
  /** Whether the part carries the stream over into the next basis; a parallel MLP adds to what its attention carried. */
  readonly carries: boolean
  readonly epsilon: number
}

/** Entries of the block stack of a sliced model: norms are gone into the projections, shortcuts are new. */
export function slicedStackParameters(spec: DecoderSpec, width: number): number {
  const rotated = rotatedParts(spec)
  const widthBehind = (part: Part) => (rotated.some((later) => later > part) ? width : spec.hidden)
  const shortcuts = rotated.reduce((total, part) => total + width * widthBehind(part), 0)
  return presentParts(spec).reduce((total, part) => {
    const { query, key, value, output, gate, up, down } = spec.block(blockOf(part))
    const [inner, outer] = isAttention(part) ? [[query, key, value], output] : [gate ? [gate, up] : [up], down]
    const behind = widthBehind(part)
    const own = inner.reduce((sum, { rows, bias }) => sum + rows * width + (bias ? rows : 0), 0)
    return total + own + behind * outer.columns + (outer.bias ? behind : 0)
  }, shortcuts)
}

/** The weights of a part between two bases: norm weights go into the projections, the norm keeps the dense width as its divisor. */
export function slicePart(weights: PartWeights, spec: DecoderSpec, slice: PartSlice): PartWeights {
  const make = () =>
    weights.attention ? { attention: sliceAttention(weights.attention, spec, slice) } : { mlp: sliceMlp(weights.mlp, spec, slice) }
  return tidy(make as never) as unknown as PartWeights
}

function sliceAttention(weights: AttentionWeights, spec: DecoderSpec, slice: PartSlice): AttentionWeights {
  const read = readThrough(weights.queryKeyValue, weights.queryKeyValueBias, weights.norm, slice)
  const written = writeThrough(weights.output, weights.outputBias, spec, slice)
  return {
    norm: slicedNorm(spec, slice),
    queryKeyValue: read.weight,
    ...(read.bias ? { queryKeyValueBias: read.bias } : {}),
    output: written.weight,
    ...(written.bias ? { outputBias: written.bias } : {}),
    ...shortcutOf(slice),
  }
}

function sliceMlp(weights: MlpWeights, spec: DecoderSpec, slice: PartSlice): MlpWeights {
  const up = readThrough(weights.up, weights.upBias, weights.norm, slice)
  const gate = weights.gate && readThrough(weights.gate, weights.gateBias, weights.norm, slice)
  const down = writeThrough(weights.down, weights.downBias, spec, slice)
  return {
    norm: slicedNorm(spec, slice),
    up: up.weight,
    ...(up.bias ? { upBias: up.bias } : {}),
    ...(gate ? { gate: gate.weight, ...(gate.bias ? { gateBias: gate.bias } : {}) } : {}),
    down: down.weight,
    ...(down.bias ? { downBias: down.bias } : {}),
    ...shortcutOf(slice),
  }
}

const slicedNorm = (spec: DecoderSpec, { epsilon }: PartSlice): NormWeights => ({ kind: 'rms', epsilon, divisor: spec.hidden })

interface Projected {
  readonly weight: Tensor2D
  readonly bias: Tensor1D | undefined
}

const toColumn = (x: Tensor1D): Tensor2D => reshape(x, [-1, 1])
const toVector = (x: Tensor2D): Tensor1D => reshape(x, [-1])

/** A projection [R, D] behind a norm as one [R, d] behind the bare norm: x norm W = x (W norm.weight rotation) and its constant part. */
function readThrough(weight: Tensor2D, bias: Tensor1D | undefined, norm: NormWeights, { input }: PartSlice): Projected {
  const fused = norm.weight ? mul<Tensor2D>(weight, norm.weight) : weight
  const shift = norm.bias && toVector(matMul<Tensor2D>(weight, toColumn(norm.bias)))
  const own = shift && bias ? add<Tensor1D>(bias, shift) : (shift ?? bias?.clone())
  return { weight: matMul(fused, input), bias: own }
}

/** A projection [D, R] onto the stream as one [d, R] onto the rotated stream. A layer norm takes means off: so does what is written. */
function writeThrough(weight: Tensor2D, bias: Tensor1D | undefined, spec: DecoderSpec, { output }: PartSlice): Projected {
  const centre = spec.norm.kind === 'layer'
  const full = centre ? sub<Tensor2D>(weight, mean(weight, 0, true)) : weight
  const fullBias = bias && (centre ? sub<Tensor1D>(bias, mean(bias)) : bias)
  if (!output) return { weight: full.clone(), bias: fullBias?.clone() }
  return {
    weight: matMul(output, full, true, false),
    bias: fullBias && toVector(matMul<Tensor2D>(output, toColumn(fullBias), true, false)),
  }
}

/** From one basis into the next: [d, d], or [d, D] behind the last part. */
function shortcutOf({ input, output, carries }: PartSlice): { shortcut?: Tensor2D } {
  if (!carries) return {}
  return { shortcut: output ? matMul<Tensor2D>(input, output, true, false) : transpose<Tensor2D>(input) }
}

/** The model as a slice plan leaves it: a stream of `width` coordinates. Weights are rotated when they are leased. */
export function slicedView(model: Model, plan: SlicePlan, tensors: PlanTensors | undefined): ModelView {
  const { spec } = model
  const order = rotatedParts(spec)
  const load = (name: string): Tensor2D => {
    const found = tensors?.get(name)
    if (!found)
      throw new EspalierError(
        'invalid',
        `The plan's tensor "${name}" is missing from ${plan.tensors}: a sliced model cannot be built without it. Prune again.`,
      )
    const values = found.values instanceof Float32Array ? found.values : Float32Array.from(found.values)
    return tensor2d(values, found.shape as [number, number])
  }
  const epsilon = plan.epsilon ?? spec.norm.epsilon
  const transform = (part: Part, weights: PartWeights): PartWeights => {
    const at = order.findLastIndex((rotated) => rotated <= part)
    const next = order[at + 1]
    const output = next === undefined ? undefined : load(rotationName(next))
    const input = load(rotationName(order[at] ?? part))
    const own = slicePart(weights, spec, { input, output, carries: order[at] === part, epsilon })
    input.dispose()
    output?.dispose()
    return own
  }
  const finalNorm: NormWeights = { ...model.vocabulary.finalNorm, kind: 'rms', epsilon }
  return new ModelView(model, spec.blocks, transform, model.vocabulary.rotated(load(embeddingRotationName), finalNorm))
}
