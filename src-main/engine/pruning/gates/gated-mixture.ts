import {
  add,
  gather,
  matMul,
  mul,
  type Rank,
  reshape,
  sigmoid,
  sub,
  sum,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tensor1d,
  tensor2d,
  tidy,
} from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { type DecoderSpec, isConstant, type RouterKind } from '#engine/architectures/spec.ts'
import { ExpertSums, scoresOf } from '#engine/model/parts/mixture/mixture.ts'
import { breathe } from '#engine/model/walk.ts'
import { disposePart } from '#engine/model/weights/unpack.ts'
import { isUnread, type MixtureWeights, type MlpWeights } from '#engine/model/weights/weights.ts'
import { activate, gateNeurons, neuronsBackward } from '#engine/tensor/activation.ts'
import { normalize, normalizeBackward } from '#engine/tensor/norm.ts'
import { combine, type Products, project } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/sums.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import type { Observed } from './observed.ts'

/** The tokens that chose an expert: rows of the input, and the factors on its output for them. */
interface Route {
  readonly rows: Int32Array
  readonly factors: Float32Array
}

/** What the backward pass of a mixture needs of its forward pass. Experts are computed again. */
export interface KeptMixture {
  /** The input of the part, before its norm: [N, D]. */
  readonly source: Tensor2D
  readonly routes: ReadonlyMap<number, Route>
}

interface MixtureCall {
  readonly spec: DecoderSpec
  readonly products: Products
  readonly batch: number
  readonly observe?: ((observed: Observed) => void) | undefined
}

type Expert = MixtureWeights['experts'][number]

/** Calls `use` with the weights of an expert. If they are not in memory, they are read and disposed of afterwards. */
async function withExpert<T>(expert: Expert, use: (weights: Exclude<Expert, { read: unknown }>) => T): Promise<T> {
  if (!isUnread(expert)) return use(expert)
  const read = await expert.read()
  try {
    return use(read)
  } finally {
    disposePart({ mlp: read })
  }
}

/**
 * Runs a mixture on source [N, D], without the norm on its output. The router is not gated: it chooses as in the dense model, and a closed
 * expert adds nothing to the tokens that chose it.
 */
export async function mixtureForward(
  source: Tensor2D,
  weights: MixtureWeights,
  { spec }: Pick<MixtureCall, 'spec'>,
  gates: readonly number[] | undefined,
): Promise<{ readonly output: Tensor2D; readonly kept: KeptMixture }> {
  const sums = new ExpertSums(inputOf(source, weights), weights, spec)
  try {
    const routes = new Map([...sums.routes].map(([expert, route]) => [expert, { rows: route.rows, factors: route.gates.slice() }]))
    for (const [expert, { gates: factors }] of sums.routes) {
      const gate = gates?.[expert] ?? 1
      if (gate === 0) continue
      if (gate !== 1) for (const [i, value] of factors.entries()) factors[i] = value * gate
      await withExpert(at(weights.experts, expert), (own) => sums.add(expert, own))
      await breathe()
    }
    return { output: tidy(() => sums.output()), kept: { source: source.clone(), routes } }
  } finally {
    sums.dispose()
  }
}

const inputOf = (source: Tensor2D, { norm }: MixtureWeights): Tensor2D => (norm ? normalize(source, norm) : source.clone())

/**
 * Returns the gradients of the gates on experts [B, E], of the gate on the whole mixture [B], and of the part's input, given the gradient of
 * the output, [N, D]. The router's factors depend on the input too; its choices do not.
 */
export async function mixtureBackward(
  { source, routes }: KeptMixture,
  weights: MixtureWeights,
  byOutput: Tensor2D,
  call: MixtureCall,
  gates: { readonly experts?: readonly number[] | undefined; readonly output: number },
): Promise<{ readonly source?: Tensor2D; readonly experts: Float32Array; readonly output: Float32Array }> {
  const { batch, spec } = call
  const input = inputOf(source, weights)
  const [rows, width] = input.shape
  const [count, tokens] = [weights.experts.length, rows / batch]
  const experts = new Float32Array(batch * count)
  const output = new Float32Array(batch)
  /** The gradients of the input, and of the router's factor for each token and expert. */
  const byInput = new Float32Array(rows * width)
  const byFactors = new Float32Array(rows * count)
  try {
    for (const [expert, route] of routes) {
      const gate = gates.experts?.[expert] ?? 1
      const { observe } = call
      const observing = { ...call, observe: observe && ((seen: Observed) => observe({ ...seen, expert: { index: expert, of: count } })) }
      const found = await withExpert(at(weights.experts, expert), (own) => expertBackward(input, own, route, byOutput, observing))
      for (const [place, row] of route.rows.entries()) {
        const own = at(found.byFactor, place)
        const ofGate = own * at(route.factors, place)
        const window = Math.floor(row / tokens)
        experts[window * count + expert] = at(experts, window * count + expert) + ofGate * gates.output
        output[window] = at(output, window) + ofGate * gate
        byFactors[row * count + expert] = own * gate
        if (gate === 0 || !found.byInput) continue
        const [from, to] = [place * width, row * width]
        for (let i = 0; i < width; i++) byInput[to + i] = (byInput[to + i] as number) + gate * (found.byInput[from + i] as number)
      }
      await breathe()
    }
    const shared = weights.shared && sharedBackward(input, weights.shared, weights.sharedGate, byOutput, call)
    for (const [row, value] of (shared?.byGate ?? []).entries()) {
      const window = Math.floor(row / tokens)
      output[window] = at(output, window) + value
    }
    if (gates.output === 0) {
      shared?.byInput.dispose()
      return { experts, output }
    }
    const byLogits = routerBackward(input, weights, routes, byFactors, spec.router as RouterKind)
    const back = inputGradient(source, weights, [byInput, byLogits], shared?.byInput, gates.output)
    shared?.byInput.dispose()
    return { source: back, experts, output }
  } finally {
    input.dispose()
  }
}

/** Joins the gradients of a mixture's input, from its experts, its router and its shared expert, and goes back through its norm. */
function inputGradient(
  source: Tensor2D,
  { norm, router }: MixtureWeights,
  [byExperts, byLogits]: readonly [Float32Array, Float32Array],
  byShared: Tensor2D | undefined,
  gate: number,
): Tensor2D {
  return tidy(() => {
    const rows = source.shape[0]
    const sums: Tensor2D = add(tensor2d(byExperts, source.shape), matMul(tensor2d(byLogits, [rows, byLogits.length / rows]), router))
    const joined: Tensor2D = mul(byShared ? add(sums, byShared) : sums, gate)
    return norm ? normalizeBackward(source, norm, joined).x : joined
  })
}

/** Returns, for the tokens of an expert, the gradient of the router's factor [n] and of the input [n, D]. A constant reads no input. */
function expertBackward(
  input: Tensor2D,
  own: Exclude<Expert, { read: unknown }>,
  { rows, factors }: Route,
  byOutput: Tensor2D,
  call: MixtureCall,
): { readonly byFactor: Float32Array; readonly byInput?: Float32Array } {
  const found = tidied(() => {
    const indices = tensor1d(rows, 'int32')
    const before: Tensor2D = gather(byOutput, indices)
    if (isConstant(own)) return { byFactor: sum<Tensor1D>(mul(before, reshape<Rank.R2>(own.constant, [1, -1])), 1) }
    const inputs: Tensor2D = gather(input, indices)
    const { neurons, gate, up } = neuronsOf(inputs, own, call)
    const byNeurons = combine(before, own.down, call.products)
    const factor = tensor2d(factors, [rows.length, 1])
    const scaled = mul<Tensor2D>(byNeurons, factor)
    call.observe?.({ projection: 'down', inputs: neurons, gradient: mul(before, factor) })
    return { byFactor: outputDot(neurons, byNeurons, before, own), byInput: inputBackward(gate, up, own, scaled, call, inputs) }
  }) as { byFactor: Tensor1D; byInput?: Tensor2D }
  const read = (x: Tensor) => {
    const values = x.dataSync() as Float32Array
    x.dispose()
    return values
  }
  return { byFactor: read(found.byFactor), ...(found.byInput ? { byInput: read(found.byInput) } : {}) }
}

/** Returns each token's output of an MLP times the gradient of that output, [n]. */
function outputDot(neurons: Tensor2D, byNeurons: Tensor2D, byOutput: Tensor2D, { downBias }: MlpWeights): Tensor1D {
  const plain: Tensor1D = sum(mul(neurons, byNeurons), 1)
  return downBias ? add(plain, sum(mul(byOutput, downBias), 1)) : plain
}

function neuronsOf(input: Tensor2D, own: MlpWeights, { spec: { activation } }: MixtureCall) {
  const up = project(input, own.up, own.upBias)
  const gate = own.gate && project(input, own.gate, own.gateBias)
  return { up, gate, neurons: gate ? gateNeurons(gate, up, activation) : activate(up, activation) }
}

/** Goes back to an MLP's input. With `inputs`, its first projections are observed. */
function inputBackward(
  gate: Tensor2D | undefined,
  up: Tensor2D,
  own: MlpWeights,
  byNeurons: Tensor2D,
  { spec, products, observe }: MixtureCall,
  inputs?: Tensor2D,
): Tensor2D {
  const by = neuronsBackward(gate, up, spec.activation, byNeurons)
  if (inputs) observe?.({ projection: 'up', inputs, gradient: by.up })
  if (inputs && by.gate) observe?.({ projection: 'gate', inputs, gradient: by.gate })
  const throughUp = combine(by.up, own.up, products)
  return by.gate && own.gate ? combine(by.gate, own.gate, products, { add: throughUp }) : throughUp
}

/** Returns the gradients of the shared expert's input [N, D] and, for each token, of a gate on its output. */
function sharedBackward(
  input: Tensor2D,
  own: MlpWeights,
  sharedGate: Tensor2D | undefined,
  byOutput: Tensor2D,
  call: MixtureCall,
): { readonly byInput: Tensor2D; readonly byGate: Float32Array } {
  const { byInput, byGate } = tidied(() => {
    const { neurons, gate, up } = neuronsOf(input, own, call)
    const byNeurons = combine(byOutput, own.down, call.products)
    const byFactor: Tensor2D = reshape(outputDot(neurons, byNeurons, byOutput, own), [-1, 1])
    if (!sharedGate) return { byInput: inputBackward(gate, up, own, byNeurons, call), byGate: byFactor }
    const factor: Tensor2D = sigmoid(project(input, sharedGate))
    const bySharedGate: Tensor2D = mul(byFactor, mul(factor, sub(1, factor)))
    const throughNeurons = inputBackward(gate, up, own, mul<Tensor2D>(byNeurons, factor), call)
    return { byInput: add<Tensor2D>(throughNeurons, matMul(bySharedGate, sharedGate)), byGate: mul<Tensor2D>(byFactor, factor) }
  })
  const values = byGate.dataSync() as Float32Array
  byGate.dispose()
  return { byInput, byGate: values }
}

/** Returns the gradients of the router's logits, [N, E], given those of its factors. Which experts are chosen does not change. */
function routerBackward(
  input: Tensor2D,
  { router, routerBias, experts }: MixtureWeights,
  routes: ReadonlyMap<number, Route>,
  byFactors: Float32Array,
  kind: RouterKind,
): Float32Array {
  const { renormalised, scale = 1 } = kind
  const count = experts.length
  const logits = valuesOf(() => project(input, router, routerBias))
  const chosen: number[][] = Array.from({ length: logits.length / count }, () => [])
  for (const [expert, { rows }] of routes) for (const row of rows) chosen[row]?.push(expert)
  const byLogits = new Float32Array(logits.length)
  for (const [row, own] of chosen.entries()) {
    const from = row * count
    const scores = scoresOf(logits.subarray(from, from + count), kind)
    const total = renormalised ? own.reduce((sum, expert) => sum + at(scores, expert), 0) : 1
    // A factor is scale * score / total, and the total may depend on all chosen scores.
    const level = renormalised ? own.reduce((sum, expert) => sum + at(byFactors, from + expert) * at(scores, expert), 0) / total : 0
    const byScores = new Map(own.map((expert) => [expert, (scale * (at(byFactors, from + expert) - level)) / total]))
    const mean = kind.scores === 'softmax' ? own.reduce((sum, expert) => sum + (byScores.get(expert) ?? 0) * at(scores, expert), 0) : 0
    for (let expert = 0; expert < count; expert++) {
      const score = at(scores, expert)
      const by = byScores.get(expert) ?? 0
      byLogits[from + expert] = kind.scores === 'softmax' ? score * (by - mean) : score * (1 - score) * by
    }
  }
  return byLogits
}
