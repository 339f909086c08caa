import { add, dispose, gather, mul, reshape, sum, type Tensor1D, type Tensor2D, type TensorContainer } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import {
  type AttentionCall,
  type KeptAttention,
  mixBackward,
  mixForward,
  readOf,
} from '#engine/model/parts/attention/attention-backward.ts'
import type { KeptMlp } from '#engine/model/parts/mlp/mlp-backward.ts'
import type { Residual } from '#engine/model/parts/part.ts'
import type { TrainingCall } from '#engine/model/parts/part-backward.ts'
import { blockOf, type MlpWeights, type Part, type PartWeights } from '#engine/model/weights/weights.ts'
import { activate, gateNeurons, neuronsBackward } from '#engine/tensor/activation.ts'
import { type NormWeights, normalize, normalizeBackward } from '#engine/tensor/norm.ts'
import { combine, matrixFor, project, projectNormed } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/sums.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import { type KeptMixture, mixtureBackward, mixtureForward } from './gated-mixture.ts'
import type { Observed } from './observed.ts'

/** Factors on a part: 1 for what is open, 0 for what is closed. */
export interface PartGates {
  /** On the inputs of the last projection: neurons [I], or outputs of heads [H d]. Absent if all are open. */
  readonly inner?: Tensor1D | undefined
  /** The neurons that are open, if many are closed. Products that closed neurons add nothing to are then computed without them. */
  readonly open?: Tensor1D | undefined
  /** On the outputs of a mixture's experts, [E]. Absent if all are open. */
  readonly experts?: readonly number[] | undefined
  /** On the output of the whole part. */
  readonly output: number
}

/** The gradients of a loss with respect to the gates of a part, one row for each window. */
export interface PartGradients {
  /** [B, I] or [B, H d]. Absent for a mixture. */
  readonly inner?: Float32Array
  /** [B, E], for a mixture. */
  readonly experts?: Float32Array
  /** [B]. */
  readonly output: Float32Array
}

/** What the backward pass of a part needs of its forward pass. */
export interface KeptGated {
  readonly attention?: KeptAttention
  readonly mlp?: KeptMlp
  readonly mixture?: KeptMixture
  /** The input of the norm on the part's output, if there is one. */
  readonly output?: Tensor2D
}

/** What both passes of a part share. */
export interface GatedCall extends TrainingCall {
  /** Windows that pass together. */
  readonly batch: number
  /** Receives what each projection of a part had on the way back. */
  readonly observe?: ((part: Part, observed: Observed) => void) | undefined
}

const attentionCall = ({ spec, rotary, products }: GatedCall, part: Part): AttentionCall => {
  const block = blockOf(part)
  return { spec, products, block, tables: rotary(block) }
}

const sourceOf = ({ x, source }: Residual, { parallelResidual }: DecoderSpec): Tensor2D => (parallelResidual ? source : x)

/** Returns the stream after a part, [N, D], and what its backward pass needs. The caller disposes of all of it. */
export async function gatedForward(
  part: Part,
  weights: PartWeights,
  residual: Residual,
  call: GatedCall,
  gates: PartGates,
): Promise<{ x: Tensor2D; kept: KeptGated }> {
  const { spec } = call
  if (weights.mixture) {
    const { output, kept } = await mixtureForward(sourceOf(residual, spec), weights.mixture, call, gates.experts)
    const { outputNorm } = weights.mixture
    const x = tidied(() => ({ x: addOutput(residual.x, outputNorm ? normalize(output, outputNorm) : output, gates, spec) })).x
    if (outputNorm) return { x, kept: { mixture: kept, output } }
    output.dispose()
    return { x, kept: { mixture: kept } }
  }
  const own = weights.attention ?? weights.mlp
  const last = lastOf(weights)
  return tidied(() => {
    const kept: KeptGated = weights.attention
      ? { attention: mixForward(residual.x, weights.attention, attentionCall(call, part)) }
      : { mlp: feed(sourceOf(residual, spec), weights.mlp, call) }
    // The norm on an output shows what a closed part would have added.
    if (gates.output === 0 && !own.outputNorm) return { x: residual.x.clone(), kept }
    const inner = innerOf(kept, spec)
    const gated = gates.open ? gather(inner, gates.open, 1) : gates.inner ? mul<Tensor2D>(inner, gates.inner) : inner
    const matrix = matrixFor(gates.open ? gather(last.weight, gates.open, 1) : last.weight, call.products)
    if (!own.outputNorm) return { x: project(gated, matrix, last.bias, { add: residual.x, scale: scaleOf(gates, spec) }), kept }
    const output = project(gated, matrix, last.bias)
    return { x: addOutput(residual.x, normalize(output, own.outputNorm), gates, spec), kept: { ...kept, output } }
  })
}

const scaleOf = ({ output }: PartGates, { residualScale = 1 }: DecoderSpec): number | undefined =>
  output * residualScale === 1 ? undefined : output * residualScale

function addOutput(x: Tensor2D, output: Tensor2D, gates: PartGates, spec: DecoderSpec): Tensor2D {
  const scale = scaleOf(gates, spec)
  return add(x, scale === undefined ? output : mul<Tensor2D>(output, scale))
}

function lastOf({ attention, mlp }: PartWeights): { readonly weight: Tensor2D; readonly bias: Tensor1D | undefined } {
  if (attention) return { weight: attention.output, bias: attention.outputBias }
  const { down, downBias } = mlp as MlpWeights
  return { weight: down, bias: downBias }
}

function feed(source: Tensor2D, weights: MlpWeights, { products }: GatedCall): KeptMlp {
  const through = (weight: Tensor2D, bias?: Tensor1D) => projectNormed(source, weights.norm, matrixFor(weight, products), bias)
  const up = through(weights.up, weights.upBias)
  return { source: source.clone(), up, ...(weights.gate ? { gate: through(weights.gate, weights.gateBias) } : {}) }
}

/** The inputs of the last projection: outputs of heads or neurons. */
function innerOf({ attention, mlp }: KeptGated, { activation }: DecoderSpec): Tensor2D {
  if (attention) return readOf(attention)
  const { gate, up } = mlp as KeptMlp
  return gate ? gateNeurons(gate, up as Tensor2D, activation) : activate(up as Tensor2D, activation)
}

/**
 * Returns the gradients of a part's gates, given the gradient of the stream after it, [N, D]. `source` is the gradient of the part's input
 * without the residual that bypasses the part. It is absent if the part is closed.
 */
export async function gatedBackward(
  part: Part,
  weights: PartWeights,
  kept: KeptGated,
  gradient: Tensor2D,
  call: GatedCall,
  gates: PartGates,
): Promise<{ readonly source?: Tensor2D; readonly gradients: PartGradients }> {
  const { spec, products } = call
  const own = weights.attention ?? weights.mlp ?? weights.mixture
  const { scaled, byOutput } = tidied(() => {
    const all: Tensor2D = spec.residualScale === undefined ? gradient.clone() : mul(gradient, spec.residualScale)
    return { scaled: all, byOutput: own.outputNorm ? normalizeBackward(kept.output as Tensor2D, own.outputNorm, all).x : all.clone() }
  })
  const { outputNorm } = own
  /** With a norm on the output, the gradient of the part's gate is that of the norm's result. */
  const behindNorm = () => {
    if (!outputNorm) return undefined
    const added = () => mul<Tensor2D>(scaled, normalize(kept.output as Tensor2D, outputNorm))
    return Float32Array.from(
      rowSums(
        valuesOf(() => perWindow(added(), call)),
        call.batch,
      ),
    )
  }
  try {
    if (weights.mixture) {
      const { observe } = call
      const observing = { ...call, observe: observe && ((observed: Observed) => observe(part, observed)) }
      const found = await mixtureBackward(kept.mixture as KeptMixture, weights.mixture, byOutput, observing, gates)
      const { source, experts, output } = found
      return { ...(source ? { source } : {}), gradients: { experts, output: behindNorm() ?? output } }
    }
    const { source, sums, byBias } = tidied(() => {
      const last = lastOf(weights)
      const byInner = combine(byOutput, last.weight, products)
      const through = (gated: Tensor2D) => (gates.output === 1 ? gated : mul<Tensor2D>(gated, gates.output))
      const byGated = (): Tensor2D => through(gates.inner ? mul<Tensor2D>(byInner, gates.inner) : byInner)
      const bias = last.bias && { byBias: perWindow(mul<Tensor2D>(byOutput, last.bias), call) }
      if (weights.attention) {
        const attention = kept.attention as KeptAttention
        const read = readOf(attention)
        const sums = perWindow(mul<Tensor2D>(read, byInner), call)
        if (gates.output === 0) return { sums, ...bias }
        const { source, projected } = mixBackward(attention, weights.attention, attentionCall(call, part), byGated())
        call.observe?.(part, { projection: 'output', inputs: read, gradient: byOutput })
        call.observe?.(part, { projection: 'mixer', inputs: inputOf(attention.source, weights.attention.norm), gradient: projected })
        return { source, sums, ...bias }
      }
      if (gates.output === 0) return { sums: perWindow(mul<Tensor2D>(innerOf(kept, spec), byInner), call), ...bias }
      const { source, neurons } = feedBackward(part, kept.mlp as KeptMlp, weights.mlp, call, byGated(), gates.open)
      call.observe?.(part, { projection: 'down', inputs: neurons, gradient: byOutput })
      return { source, sums: perWindow(mul<Tensor2D>(neurons, byInner), call), ...bias }
    }) as { source?: Tensor2D; sums: Tensor2D; byBias?: Tensor2D }
    const inner = Float32Array.from(sums.dataSync())
    const factors = gates.inner?.dataSync()
    const biases = byBias ? rowSums(byBias.dataSync(), call.batch) : undefined
    const outputs = rowSums(inner, call.batch, factors).map((value, window) => value + (biases?.[window] ?? 0))
    dispose([sums, ...(byBias ? [byBias] : [])])
    if (gates.output !== 1) for (const [i, value] of inner.entries()) inner[i] = value * gates.output
    return { ...(source ? { source } : {}), gradients: { inner, output: behindNorm() ?? Float32Array.from(outputs) } }
  } finally {
    dispose([scaled, byOutput])
  }
}

/** Goes back through an MLP, given the gradient of its neurons, which is 0 for those that are not `open`. */
function feedBackward(
  part: Part,
  { source, gate, up }: KeptMlp,
  weights: MlpWeights,
  { spec, products, observe }: GatedCall,
  byNeurons: Tensor2D,
  open: Tensor1D | undefined,
): { readonly source: Tensor2D; readonly neurons: Tensor2D } {
  const { gate: byGate, up: byUp, neurons } = neuronsBackward(gate, up as Tensor2D, spec.activation, byNeurons)
  const through = (gradient: Tensor2D, weight: Tensor2D, onto?: { add: Tensor2D }) =>
    open ? combine(gather(gradient, open, 1), gather(weight, open, 0), products, onto) : combine(gradient, weight, products, onto)
  const throughUp = through(byUp, weights.up)
  const byInput = byGate && weights.gate ? through(byGate, weights.gate, { add: throughUp }) : throughUp
  if (observe) {
    const inputs = inputOf(source, weights.norm)
    observe(part, { projection: 'up', inputs, gradient: byUp })
    if (byGate) observe(part, { projection: 'gate', inputs, gradient: byGate })
  }
  return { source: weights.norm ? normalizeBackward(source, weights.norm, byInput).x : byInput, neurons }
}

const inputOf = (source: Tensor2D, norm: NormWeights | undefined): Tensor2D => (norm ? normalize(source, norm) : source)

/** Sums the rows of each window: [N, C] to [B, C]. */
function perWindow(x: Tensor2D, { batch }: GatedCall): Tensor2D {
  return sum(reshape(x, [batch, x.shape[0] / batch, x.shape[1]]), 1)
}

/** Sums each row of [B, C] in float64, each column times its factor. */
export function rowSums(values: ArrayLike<number>, batch: number, factors?: ArrayLike<number>): number[] {
  const columns = values.length / batch
  return Array.from({ length: batch }, (_, row) => {
    let total = 0
    for (let i = 0; i < columns; i++) total += (values[row * columns + i] as number) * (factors ? at(factors as number[], i) : 1)
    return total
  })
}

export function disposeGated({ mixture, ...kept }: KeptGated): void {
  dispose(kept as TensorContainer)
  if (mixture) dispose([mixture.source])
}
