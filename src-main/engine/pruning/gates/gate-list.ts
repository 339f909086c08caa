import { dispose, type Tensor1D, tensor1d } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import { type DecoderSpec, denseMlp } from '#engine/architectures/spec.ts'
import { attentionOf, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import { mixturesOf, planWithoutExperts, removableExperts } from '../experts/expert-plan.ts'
import { densePlan, removedParameters, removeParts } from '../plan.ts'
import type { PartGates } from './gated-part.ts'

/** Gates of one kind in one block: the neurons of its MLP, its attention as a whole, or the experts of its mixture. */
export interface GateGroup {
  readonly kind: 'neurons' | 'attention' | 'experts'
  readonly block: number
  /** The index of its first gate among all gates. */
  readonly first: number
  /** How many gates it has, and how many of them may close. */
  readonly count: number
  readonly closable: number
  /** Parameters that one gate removes. */
  readonly cost: number
  /** Gates that close together: one expert of each of the router's groups. */
  readonly together: number
}

/** Which gates are closed: 1 for each. */
export type ClosedGates = Uint8Array

/** All gates of a model in one order: by block, attention before neurons or experts. */
export interface GateList {
  readonly spec: DecoderSpec
  readonly groups: readonly GateGroup[]
  readonly count: number
  /** The parameters that each gate removes. */
  readonly costs: Float64Array
}

/** An MLP keeps at least this share of its neurons, so that no block loses it. Formats expect every block to have one. */
const leastShare = 1 / 32

/** Returns the gates of a model. Of a mixture, experts are gates and their neurons are not. */
export function listGates(spec: DecoderSpec): GateList {
  const groups: GateGroup[] = []
  const dense = densePlan(spec)
  const mixtures = new Map(mixturesOf(spec).map(({ block }, index) => [block, at(removableExperts(spec), index)]))
  let count = 0
  const addGroup = (group: Omit<GateGroup, 'first'>) => {
    groups.push({ ...group, first: count })
    count += group.count
  }
  for (const [block, { attention, width, experts }] of spec.blocks.entries()) {
    if (attention) {
      const cost = removedParameters(spec, removeParts(dense, [attentionOf(block)]))
      addGroup({ kind: 'attention', block, count: 1, closable: 1, cost, together: 1 })
    }
    if (width > 0 && experts !== undefined) {
      const closable = mixtures.get(block) ?? 0
      const cost = closable > 0 ? removedParameters(spec, planWithoutExperts(spec, new Map([[block, [0]]]), 'dropped')) : 0
      addGroup({ kind: 'experts', block, count: experts, closable, cost, together: spec.router?.groups?.count ?? 1 })
    } else if (width > 0) {
      const { gate, up } = denseMlp(spec.block(block))
      const cost = (gate ? 3 : 2) * spec.hidden + (gate?.bias ? 1 : 0) + (up.bias ? 1 : 0)
      addGroup({ kind: 'neurons', block, count: width, closable: width - Math.ceil(width * leastShare), cost, together: 1 })
    }
  }
  const costs = new Float64Array(count)
  for (const { first, count: own, cost } of groups) costs.fill(cost, first, first + own)
  return { spec, groups, count, costs }
}

/** Returns the largest share of the block stack that closing gates removes. */
export function mostClosed({ spec, groups }: GateList): number {
  return groups.reduce((sum, { closable, cost }) => sum + closable * cost, 0) / stackParameters(spec)
}

/** Returns the parameters of the smallest gate that may close. */
export function leastCost({ groups }: GateList): number {
  return Math.min(...groups.flatMap(({ closable, cost }) => (closable > 0 ? cost : [])))
}

export interface GateOrder {
  readonly order: Uint32Array
  /** The index of each gate's group. */
  readonly groupOf: Int32Array
  readonly together: ReadonlyMap<number, readonly number[]>
}

/** Gates that close together. */
interface Unit {
  readonly gates: readonly number[]
  readonly score: number
}

/**
 * Closes the gates with the lowest scores of the whole model until at least `parameters` are removed. A gate that would remove more than
 * is left to remove stays open as long as smaller ones can close, so that what an attention submodule leaves over goes to neurons.
 * Ties close the earlier gate first.
 */
export const closeGates = (list: GateList, scores: ArrayLike<number>, parameters: number): ClosedGates =>
  closeInOrder(list, orderOf(list, scores), parameters)

/** Closes gates as `closeGates` does, in an order that is known. */
export function closeInOrder(list: GateList, { order, groupOf, together }: GateOrder, parameters: number): ClosedGates {
  const closed = new Uint8Array(list.count)
  const room = list.groups.map((group) => Math.floor(group.closable / group.together))
  const unitCosts = list.groups.map((group) => group.cost * group.together)
  const smallest = Math.min(...unitCosts.filter((_, group) => at(room, group) > 0))
  const skipped: number[] = []
  let left = parameters
  const close = (gate: number) => {
    for (const one of together.get(gate) ?? [gate]) closed[one] = 1
    left -= unitCosts[groupOf[gate] as number] as number
  }
  for (const gate of order) {
    if (left <= 0) break
    const group = groupOf[gate] as number
    const free = room[group] as number
    if (free === 0) continue
    room[group] = free - 1
    const cost = unitCosts[group] as number
    if (cost <= left || cost === smallest) close(gate)
    else skipped.push(gate)
  }
  // Few small gates may be left, if any: then a larger one closes after all.
  for (const gate of skipped) {
    if (left <= 0) break
    close(gate)
  }
  return closed
}

/**
 * Returns all gates by their scores, lowest first. Of gates that close together, only the first is in the order, by the mean of their
 * scores; `together` has the others. Typed arrays sort tens of thousands of gates several times as fast as objects.
 */
export function orderOf({ groups, count }: GateList, scores: ArrayLike<number>): GateOrder {
  const keys = Float64Array.from(scores)
  const groupOf = new Int32Array(count)
  const together = new Map<number, readonly number[]>()
  const listed = new Uint32Array(count)
  let length = 0
  for (const [index, group] of groups.entries()) {
    const { first, count: own } = group
    groupOf.fill(index, first, first + own)
    if (group.together === 1) for (let gate = first; gate < first + own; gate++) listed[length++] = gate
    else
      for (const { gates, score } of unitsOf(group, scores)) {
        const gate = at(gates, 0)
        together.set(gate, gates)
        keys[gate] = score
        listed[length++] = gate
      }
  }
  const order = listed.subarray(0, length).sort((a, b) => (keys[a] as number) - (keys[b] as number) || a - b)
  return { order, groupOf, together }
}

function unitsOf({ first, count, closable, together }: GateGroup, scores: ArrayLike<number>): Unit[] {
  const size = count / together
  const ordered = Array.from({ length: together }, (_, group) =>
    Array.from({ length: size }, (_, i) => first + group * size + i).sort((a, b) => at(scores, a) - at(scores, b) || a - b),
  )
  return Array.from({ length: Math.floor(closable / together) }, (_, step): Unit => {
    const gates = ordered.map((group) => at(group, step))
    return { gates, score: gates.reduce((sum, gate) => sum + at(scores, gate), 0) / together }
  })
}

/** Rounds the neurons that blocks keep to multiples of `unit`, so that at least `parameters` stay removed, by opening and closing gates at the edge. */
export function roundWidths(list: GateList, scores: ArrayLike<number>, closed: ClosedGates, unit: number, parameters: number): ClosedGates {
  if (unit === 1) return closed
  const rounded = closed.slice()
  const mlps = list.groups.filter(({ kind }) => kind === 'neurons')
  const widths = mlps.map(({ first, count }) => count - sumOf(closed, first, count))
  const least = mlps.map(({ count, closable }) => Math.min(count, Math.max(unit, unit * Math.ceil((count - closable) / unit))))
  const floors = widths.map((width, i) => Math.max(at(least, i), width === at(mlps, i).count ? width : unit * Math.floor(width / unit)))
  const other = list.groups
    .filter(({ kind }) => kind !== 'neurons')
    .reduce((sum, { first, count, cost }) => sum + cost * sumOf(closed, first, count), 0)
  let left = mlps.reduce((sum, { count, cost }, i) => sum + cost * (count - at(floors, i)), other) - parameters
  const kept = [...floors]
  const byRemainder = [...widths.keys()].sort((a, b) => at(widths, b) - at(floors, b) - (at(widths, a) - at(floors, a)) || a - b)
  for (const i of byRemainder) {
    const { count, cost } = at(mlps, i)
    const more = Math.min(unit, count - at(kept, i))
    if (more <= 0 || more * cost > left || at(widths, i) <= at(floors, i)) continue
    kept[i] = at(kept, i) + more
    left -= more * cost
  }
  for (const [i, { first, count }] of mlps.entries()) {
    const order = Array.from({ length: count }, (_, n) => first + n).sort((a, b) => at(scores, b) - at(scores, a) || a - b)
    for (const [place, gate] of order.entries()) rounded[gate] = place < at(kept, i) ? 0 : 1
  }
  return rounded
}

export function sumOf(values: ArrayLike<number>, first: number, count: number): number {
  let total = 0
  for (let i = first; i < first + count; i++) total += values[i] as number
  return total
}

/** Returns the parameters that closed gates remove. */
export const closedParameters = ({ costs }: GateList, closed: ClosedGates): number =>
  costs.reduce((sum, cost, gate) => sum + (closed[gate] ? cost : 0), 0)

/** Returns the plan that removes what closed gates hold back. */
export function planOfGates({ spec, groups }: GateList, closed: ClosedGates): Plan {
  const plan = densePlan(spec)
  const blocks = plan.blocks.map((block) => ({ ...block }))
  for (const { kind, block, first, count } of groups) {
    const own = at(blocks, block)
    const kept: number[] = []
    for (let i = 0; i < count; i++) if (!closed[first + i]) kept.push(i)
    if (kept.length === count) continue
    if (kind === 'attention') own.attention = 'removed'
    else own.mlp = kind === 'neurons' ? { kept } : { kept: 'all', experts: kept }
  }
  return { blocks }
}

/** Which parts keep what, as a model map shows it: kept neurons or experts of each block, and the blocks without attention. */
export function shapeOfGates({ spec, groups }: GateList, closed: ClosedGates): { kept: number[]; attentionRemoved: number[] } {
  const kept = spec.blocks.map(({ width, experts }) => (width > 0 ? (experts ?? width) : 0))
  const attentionRemoved: number[] = []
  for (const { kind, block, first, count } of groups) {
    const gone = sumOf(closed, first, count)
    if (kind !== 'attention') kept[block] = count - gone
    else if (gone > 0) attentionRemoved.push(block)
  }
  return { kept, attentionRemoved }
}

/** Below this share of open neurons, products without the closed ones are faster, although weights have to be gathered for them. */
const fewOpen = 0.9

function openOf(gates: readonly number[]): { open?: Tensor1D } {
  const open = gates.flatMap((gate, index) => (gate === 1 ? [index] : []))
  return open.length > 0 && open.length < fewOpen * gates.length ? { open: tensor1d(open, 'int32') } : {}
}

/** The gates of a pass, as tensors. */
export class GateMasks {
  readonly #gates = new Map<Part, PartGates>()

  constructor({ groups }: GateList, closed: ClosedGates) {
    for (const { kind, block, first, count } of groups) {
      const own = Array.from(closed.subarray(first, first + count), (gone) => 1 - gone)
      if (own.every((gate) => gate === 1)) continue
      if (kind === 'attention') this.#gates.set(attentionOf(block), { output: 0 })
      else if (kind === 'experts') this.#gates.set(mlpOf(block), { experts: own, output: 1 })
      else this.#gates.set(mlpOf(block), { inner: tensor1d(own, 'float32'), ...openOf(own), output: 1 })
    }
  }

  of(part: Part): PartGates {
    return this.#gates.get(part) ?? { output: 1 }
  }

  dispose(): void {
    dispose([...this.#gates.values()].flatMap(({ inner, open }) => [inner, open].filter((one) => one !== undefined)))
  }
}
