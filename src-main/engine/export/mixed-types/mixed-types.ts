import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { MixedTypes } from '#contract/pruning/mixed-types.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { fileSizeText } from '#contract/runs/amount-text.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { columnCount } from '#engine/checkpoint/checkpoint.ts'
import { bytesOfValues } from '#engine/checkpoint/gguf/value-blocks.ts'
import type { Windows } from '#engine/data/windows.ts'
import { cardRoom } from '#engine/export/gguf/gguf.ts'
import { asEmbedding, ggufSources } from '#engine/export/gguf/gguf-file.ts'
import { type Importances, importancesByName } from '#engine/export/gguf/importances.ts'
import { findMix } from '#engine/export/gguf/mix.ts'
import type { Planned, PrunedTensor } from '#engine/export/pieces.ts'
import type { TensorNames } from '#engine/export/pruned-tensors.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { closeGates, type GateList, listGates, mostClosed } from '#engine/pruning/gates/gate-list.ts'
import { gateRoom } from '#engine/pruning/gates/room.ts'
import { measureSensitivities, readSensitivities, sensitivityTensors } from '#engine/pruning/gates/sensitivity.ts'
import { GateTraining } from '#engine/pruning/gates/train-gates.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { chooseTypes, type Removable, worthRemoving } from './choose-types.ts'
import { type PricedTensor, priceTensor, sensitivitiesByName, type TypeChoice, typesFor, type Use } from './price-list.ts'

export const measuringSensitivity = 'Measuring sensitivity'
export const pricingTypes = 'Pricing weight types'

/** Windows that the sensitivity of weights is measured on. */
export const mixedWindows = 32

const sensitivityStep: StepKind = { version: 3 }
const removalStep: StepKind = { version: 1 }
const pricesStep: StepKind = { version: 3 }
/** Tensors whose prices are stored together. A killed run prices at most this many again. */
const tensorsPerStore = 8

/** Matrices have the shapes of a file of mixed types. The bytes of these do not depend on its size. */
const mix = findMix('MIXED:1')

interface MixRequest {
  readonly planned: Planned
  /** The view of the same plan. */
  readonly view: ModelView
  readonly windows: Windows
  readonly importances: Importances
  /** The most bytes of the whole file, and how many it has with a plan. */
  readonly bytes: number
  readonly bytesOf: (plan: Plan) => Promise<number>
  readonly run: Pick<MethodRun, 'seed' | 'signal' | 'step' | 'tensorStep' | 'progress' | 'emit' | 'count'>
}

/** A plan with the types of its matrices, and the prices that they were chosen by. */
interface Mixed {
  readonly plan: Plan
  readonly mixed: MixedTypes
}

/**
 * Chooses the type of each matrix of a GGUF file so that the file has at most this many bytes and the estimated divergence from the
 * unquantised model is least.
 */
export async function mixTypes({ planned, view, windows, importances, bytes, bytesOf, run }: MixRequest): Promise<Mixed> {
  const { lists } = await price({ planned, view, windows, importances, run })
  const { plan } = planned
  const found: { list: PriceList; types: Record<string, string>; divergence: number }[] = []
  for (const list of lists) {
    const types = await fitTypes(list, bytes - cardRoom, (own) => bytesOf({ ...plan, types: own }))
    const chosen = list.tensors.flatMap(({ name, choices }) => choices.find(({ type }) => type === types[name]) ?? [])
    found.push({ list, types, divergence: chosen.reduce((sum, { price }) => sum + price, 0) })
  }
  const { list, types, divergence } = found.reduce((best, one) => (one.divergence < best.divergence ? one : best))
  const tokens = windows.reduce((sum, { length }) => sum + length, 0)
  return { plan: { ...plan, types }, mixed: { bytes, divergence, tokens, tensors: [...list.tensors] } }
}

/**
 * Returns the share of the block stack that is worth removing for a file of this size: its bytes buy more as bits for the rest. Nothing is
 * where llama.cpp has no architecture whose blocks may differ in width.
 */
export async function shareWorthRemoving(request: MixRequest): Promise<number> {
  const { planned, view, bytes, bytesOf } = request
  const { plan, model } = planned
  const { spec } = model
  const [first] = spec.blocks.keys()
  const uneven = {
    ...plan,
    blocks: plan.blocks.map((block, index) => (index === first ? { ...block, attention: 'removed' as const } : block)),
  }
  if (!ggufSources({ model, plan: uneven }, mix).target.perBlock) return 0
  const { lists, gates } = await price(request)
  const rooms = new Map<PriceList, number>()
  for (const list of lists) {
    const smallest = list.tensors.map(({ name, choices }) => [name, at(choices, 0)] as const)
    const types = { ...Object.fromEntries(smallest.map(([name, { type }]) => [name, type])), ...list.fixed }
    const others = (await bytesOf({ ...plan, types })) - smallest.reduce((sum, [, choice]) => sum + choice.bytes, 0)
    rooms.set(list, bytes - cardRoom - others)
  }
  const gateList = listGates(view.spec)
  const most = mostClosed(gateList) * stackParameters(spec)
  const amountAt = (prices: Float64Array) => {
    const parts = removableParts(gateList, prices)
    return Math.min(most, ...lists.map((list) => worthRemoving(list.tensors, parts, rooms.get(list) as number)))
  }
  const amount = await correctAmount(request, gateList, gates, amountAt)
  return amount / stackParameters(spec)
}

/** How often the amount is corrected, and on how many windows its divergence is measured. */
const [corrections, measuredWindows] = [3, 8]

/**
 * Single gates are priced as if the others stayed open. What they cost together is measured, and all prices are corrected by the ratio.
 */
async function correctAmount(
  { view, windows: given, run }: MixRequest,
  list: GateList,
  prices: Float64Array,
  amountAt: (prices: Float64Array) => number,
): Promise<number> {
  const [first = new Int32Array()] = given
  const windows = given.filter(({ length }) => length === first.length).slice(0, measuredWindows)
  const perParameter = prices.map((price, gate) => price / at(list.costs, gate))
  const training = await GateTraining.open(view, list, gateRoom(view, first.length, 1), run)
  try {
    let amount = amountAt(prices)
    for (let round = 0; round < corrections && amount > 0; round++) {
      const closed = closeGates(list, perParameter, amount)
      const expected = prices.reduce((sum, price, gate) => sum + (closed[gate] ? price : 0), 0)
      const asked = {
        kind: removalStep,
        label: `divergence without ${amount} parameters`,
        on: { windows, closed: [...closed.keys()].filter((gate) => closed[gate]) },
      }
      const measured = await run.step(asked, () => training.divergence(closed, windows))
      amount = amountAt(prices.map((price) => (price * measured) / expected))
    }
    return amount
  } finally {
    training.dispose()
  }
}

/** The neurons and attention submodules that have tensors of their own, with their prices. */
function removableParts({ groups }: GateList, prices: Float64Array): Removable[] {
  return groups.flatMap(({ kind, block, first, count, closable, cost }) => {
    if (kind === 'experts') return []
    const parts = kind === 'attention' ? ['attn_q', 'attn_k', 'attn_v', 'attn_qkv', 'attn_output'] : ['ffn_gate', 'ffn_up', 'ffn_down']
    const tensors = parts.map((part) => `blk.${block}.${part}.weight`)
    const own = prices
      .slice(first, first + count)
      .sort()
      .subarray(0, closable)
    return [{ tensors, share: 1 / count, parameters: cost, prices: own }]
  })
}

/** The prices of all matrices of a file, and the types of those that have no choice. */
interface PriceList {
  readonly tensors: readonly PricedTensor[]
  readonly fixed: Readonly<Record<string, string>>
}

/** Chooses types for a file of at most this many bytes, or the smallest types if none fit. */
async function fitTypes(
  { tensors, fixed }: PriceList,
  bytes: number,
  bytesOf: (types: Record<string, string>) => Promise<number>,
): Promise<Record<string, string>> {
  const typesOf = (chosen: ReadonlyMap<string, TypeChoice>) => ({
    ...Object.fromEntries([...chosen].map(([name, { type }]) => [name, type])),
    ...fixed,
  })
  const excess = async (chosen: ReadonlyMap<string, TypeChoice>) => (await bytesOf(typesOf(chosen))) - bytes
  const smallest = chooseTypes(tensors, 0)
  const least = sumOf(smallest)
  let room = least - (await excess(smallest))
  let chosen = chooseTypes(tensors, room)
  // Tensors begin at multiples of 32 bytes, so a file may have a little more than its parts.
  for (let over = await excess(chosen); over > 0 && sumOf(chosen) > least; over = await excess(chosen)) {
    room = Math.min(room, sumOf(chosen)) - over
    chosen = chooseTypes(tensors, room)
  }
  return typesOf(chosen)
}

const sumOf = (chosen: ReadonlyMap<string, TypeChoice>): number => [...chosen.values()].reduce((sum, { bytes }) => sum + bytes, 0)

/** Throws `infeasible` if the model has no gradients to choose by. */
export function requireGradients(spec: DecoderSpec): void {
  if (spec.neuronLimit || spec.projectionLimit !== undefined || spec.blocks.some((_, block) => spec.block(block).sinks))
    throw new EspalierError(
      'infeasible',
      `Mixed types are chosen by gradients, which Espalier does not compute through the attention of a ${spec.family} model. Choose a type.`,
    )
}

/** Throws `infeasible` with the range of sizes if no types make a file of one of these plans that small. Reads no weights. */
export async function requireMixedTypes(
  model: Planned['model'],
  plans: Iterable<Plan>,
  bytes: number,
  bytesOf: (plan: Plan) => Promise<number>,
): Promise<void> {
  requireGradients(model.spec)
  let [least, most] = [Number.POSITIVE_INFINITY, 0]
  for (const plan of plans) {
    least = Math.min(least, (await bytesOf(typedBySize({ model, plan }, Math.min))) + cardRoom)
    if (bytes >= least) return
    most = Math.max(most, await bytesOf(typedBySize({ model, plan }, Math.max)))
  }
  const [asked, from, to] = [bytes, least, most].map(fileSizeText)
  throw new EspalierError(
    'infeasible',
    `No types make a file of ${asked}: this model's files of mixed types have ${from} to ${to}. Choose a size in that range.`,
    { range: { least, most } },
  )
}

/** The plan with the smallest or the largest type of each matrix. */
function typedBySize(planned: Planned, pick: (...sizes: number[]) => number): Plan {
  const { target, tensors } = ggufSources(planned, mix)
  const matrices = tensors.filter(({ name, shape }) => isMatrix(name, shape, target.names))
  const types = matrices.map(({ name, shape }) => {
    const columns = columnCount(shape)
    const candidates = typesFor(columns, name.startsWith('blk.'))
    const size = pick(...candidates.map((type) => bytesOfValues(type, columns)))
    return [name, candidates.find((type) => bytesOfValues(type, columns) === size)?.name ?? 'F16']
  })
  return { ...planned.plan, types: Object.fromEntries(types) }
}

/** Whether a tensor of a GGUF file is a matrix of attention, an MLP, the experts of a mixture, the embedding or the head. */
export const isMatrix = (name: string, shape: readonly number[], { embedding, head }: TensorNames): boolean =>
  shape.length >= 2 &&
  (name === embedding || name === head.weight || /^blk\.\d+\.(attn_(q|k|v|qkv|output)|ffn_(gate|up|down)(_exps)?)\.weight$/.test(name))

/**
 * Prices all types of the matrices that have a sensitivity. If head and embedding are two matrices of one shape, a second list stores the
 * head's for both: models whose heads are tied often have files with both, rounded differently.
 */
async function price({
  planned,
  view,
  windows,
  importances,
  run,
}: Pick<MixRequest, 'planned' | 'view' | 'windows' | 'importances' | 'run'>): Promise<{ lists: PriceList[]; gates: Float64Array }> {
  const { seed, signal } = run
  const on = { plan: planned.plan, windows, seed }
  const { tensors: stored } = await run.tensorStep({ kind: sensitivityStep, label: 'sensitivity of weights', on }, async () => {
    const random = new PythonRandom(seed)
    const report = {
      signal,
      progress: (done: number, total: number) => run.progress(measuringSensitivity, done, total, 'windows'),
    }
    return { tensors: sensitivityTensors(await measureSensitivities(view, windows, () => random.random(), report)) }
  })
  const { target, tensors } = ggufSources(planned, mix)
  const measured = readSensitivities(stored)
  const sensitivities = sensitivitiesByName(view.spec, tensors, target, measured)
  const weighed = importancesByName(tensors, target, importances)
  const tokens = windows.reduce((sum, { length }) => sum + length, 0)
  const usesOf = (matrix: PrunedTensor): Use[] => (sensitivities.get(matrix.name) ?? []).map((sensitivity) => ({ matrix, sensitivity }))
  const asked = tensors
    .filter(({ name, shape }) => isMatrix(name, shape, target.names) && sensitivities.has(name))
    .map((tensor) => ({ tensor, uses: usesOf(tensor) }))
  const { weight: headName } = target.names.head
  const [embedding, head] = [target.names.embedding, headName].map((name) => asked.find(({ tensor }) => tensor.name === name))
  const isShareable = embedding && head && !target.dialect.needsHead && `${embedding.tensor.shape}` === `${head.tensor.shape}`
  if (isShareable) asked.push({ tensor: head.tensor, uses: [...head.uses, ...embedding.uses] })
  const priced: PricedTensor[] = []
  for (let first = 0; first < asked.length; first += tensorsPerStore) {
    const some = asked.slice(first, first + tensorsPerStore)
    const label = `prices of types, ${some[0]?.tensor.name} to ${some.at(-1)?.tensor.name}`
    const own = await run.step(
      { kind: pricesStep, label, on: { ...on, importances: importances.texts, tokens: importances.tokens } },
      async () => {
        const found: PricedTensor[] = []
        for (const [index, { tensor, uses }] of some.entries()) {
          signal.throwIfAborted()
          run.progress(pricingTypes, first + index, asked.length, 'matrices')
          found.push(await priceTensor(tensor, uses, tokens, weighed.get(tensor.name)))
        }
        return found
      },
    )
    priced.push(...own)
  }
  run.progress(pricingTypes, asked.length, asked.length, 'matrices')
  const separate = { tensors: isShareable ? priced.slice(0, -1) : priced, fixed: {} }
  if (!isShareable) return { lists: [separate], gates: measured.gates }
  const blocks = separate.tensors.filter(({ name }) => name !== embedding.tensor.name && name !== headName)
  const shared = { ...at(priced, priced.length - 1), name: embedding.tensor.name }
  return { lists: [separate, { tensors: [shared, ...blocks], fixed: { [headName]: asEmbedding } }], gates: measured.gates }
}
