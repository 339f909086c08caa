import { describe, expect, test } from 'vitest'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import {
  closedParameters,
  closeGates,
  type GateList,
  listGates,
  mostClosed,
  planOfGates,
  roundWidths,
  sumOf,
} from '#engine/pruning/gates/gate-list.ts'
import { removedParameters } from '#engine/pruning/plan.ts'
import { familyModels, fullModels, mixtureModels } from '../../../fixtures/reference.ts'
import { openReference } from '../running.ts'

/** Scores in a fixed order that mixes blocks and kinds. */
const mixedScores = ({ count }: GateList) => Float32Array.from({ length: count }, (_, gate) => Math.sin(12.9898 * gate) * 43.758)

describe.each([...fullModels, ...familyModels, ...mixtureModels])('%s', (name) => {
  const open = openReference(name)

  test('gates cost what their plan removes, to within the smallest gate of the budget', () => {
    const { spec } = open().model
    const list = listGates(spec)
    const all = stackParameters(spec)
    const sizes = list.groups.filter(({ closable }) => closable > 0).map(({ cost, together }) => cost * together)
    // Of a mixture, the few neurons of blocks without experts may all be closed.
    const most = spec.router ? Math.max(...sizes) : Math.min(...sizes)
    for (const share of [0, 0.1, 0.5, 1].map((part) => part * mostClosed(list))) {
      const closed = closeGates(list, mixedScores(list), share * all)
      const removed = removedParameters(spec, planOfGates(list, closed))
      expect(removed).toBe(closedParameters(list, closed))
      expect(removed).toBeGreaterThanOrEqual(share * all - 1e-6)
      if (share < 0.9 * mostClosed(list)) expect(removed - share * all).toBeLessThan(most)
    }
  })
})

describe('a list of gates', () => {
  const open = openReference('stories260k')
  const listed = () => listGates(open().model.spec)
  const neuronsOf = (list: GateList) => list.groups.filter(({ kind }) => kind === 'neurons')

  test('what an attention submodule leaves over goes to neurons', () => {
    const list = listed()
    const attention = list.groups.find(({ kind }) => kind === 'attention') as GateList['groups'][number]
    const neuron = (neuronsOf(list)[0] as GateList['groups'][number]).cost
    const scores = new Float32Array(list.count).fill(1)
    scores[attention.first] = 0
    const budget = attention.cost + 2.5 * neuron
    const closed = closeGates(list, scores, budget)
    expect(closed[attention.first]).toBe(1)
    expect(closed.reduce((sum, gate) => sum + gate, 0)).toBe(1 + 3)
    // With less room than an attention takes, it stays open, although its score is the lowest.
    const less = closeGates(list, scores, attention.cost - neuron)
    expect(less[attention.first]).toBe(0)
    expect(closedParameters(list, less)).toBeGreaterThanOrEqual(attention.cost - neuron)
  })

  test('equal scores close the earlier gate first, and no MLP loses all of its neurons', () => {
    const list = listed()
    const first = neuronsOf(list)[0] as GateList['groups'][number]
    const closed = closeGates(list, new Float32Array(list.count), 3 * first.cost)
    expect([...closed.subarray(first.first, first.first + 4)]).toEqual([1, 1, 1, 0])
    const everything = closeGates(list, new Float32Array(list.count), Number.MAX_SAFE_INTEGER)
    for (const { first: from, count, closable } of neuronsOf(list)) {
      expect(sumOf(everything, from, count)).toBe(closable)
      expect(closable).toBeLessThan(count)
    }
    expect(closedParameters(list, everything) / stackParameters(list.spec)).toBeCloseTo(mostClosed(list), 12)
  })

  test.each([8, 32])('widths are multiples of %i, and as much is removed as without rounding, or little more', (unit) => {
    const list = listed()
    const scores = mixedScores(list)
    const budget = 0.4 * stackParameters(list.spec)
    const exact = closeGates(list, scores, budget)
    const rounded = roundWidths(list, scores, exact, unit, budget)
    const neuron = (neuronsOf(list)[0] as GateList['groups'][number]).cost
    for (const { first, count } of neuronsOf(list)) {
      const kept = count - sumOf(rounded, first, count)
      expect(kept === count || kept % unit === 0, `${kept} of ${count}`).toBe(true)
      // What stays has the highest scores of its block.
      const own = [...scores.subarray(first, first + count)]
      const lowestKept = Math.min(...own.filter((_, i) => !rounded[first + i]))
      expect(own.filter((score, i) => rounded[first + i] && score > lowestKept)).toEqual([])
    }
    expect(closedParameters(list, rounded)).toBeGreaterThanOrEqual(budget)
    expect(closedParameters(list, rounded) - budget).toBeLessThanOrEqual(unit * neuron * 2)
  })
})

describe('a mixture', () => {
  const open = openReference('glm4_moe-groups')

  test('loses one expert of each group of its router at a time', () => {
    const { spec } = open().model as { spec: DecoderSpec }
    const list = listGates(spec)
    const group = list.groups.find(({ kind }) => kind === 'experts') as GateList['groups'][number]
    expect(group.together).toBe(spec.router?.groups?.count)
    const scores = new Float32Array(list.count).fill(1)
    for (let i = 0; i < group.count; i++) scores[group.first + i] = -i
    const closed = closeGates(list, scores, group.cost * group.together)
    const size = group.count / group.together
    for (let own = 0; own < group.together; own++) expect(sumOf(closed, group.first + own * size, size)).toBe(1)
  })
})
