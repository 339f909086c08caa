import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { closeGates, listGates } from '#engine/pruning/gates/gate-list.ts'
import { type GateState, moveScores } from '#engine/pruning/gates/train-gates.ts'
import { openReference } from '../running.ts'

const open = openReference('stories260k')

/** Moves the scores of all gates by the same gradients, `steps` times. */
function train(gradient: (gate: number) => number, steps: number, rate = 0.1) {
  const list = listGates(open().model.spec)
  const zeros = () => new Float32Array(list.count)
  const start = Float32Array.from({ length: list.count }, (_, gate) => 0.001 * gate)
  const recipe = { steps, windowsPerStep: 1, rate, temperature: 1, parameters: 50 * at(list.costs, 1) }
  const states: GateState[] = []
  let state: GateState = { scores: start, closed: zeros(), mean: zeros(), first: zeros(), second: zeros() }
  for (let index = 0; index < steps; index++) {
    const closed = closeGates(list, state.scores, recipe.parameters)
    state = moveScores(
      state,
      list,
      closed,
      Float64Array.from(zeros(), (_, gate) => gradient(gate)),
      recipe,
      index,
    )
    states.push(state)
  }
  return { start, states, last: state, list }
}

test('a gate whose opening raises the loss sinks, and one that is missed rises', () => {
  const { start, last } = train((gate) => (gate === 3 ? 1 : gate === 5 ? -1 : 0.01 * Math.sin(gate)), 8)
  expect(at(last.scores, 3)).toBeLessThan(at(start, 3) - 0.2)
  expect(at(last.scores, 5)).toBeGreaterThan(at(start, 5) + 0.2)
})

test('the scores that decide are the mean of those of the last half of the steps', () => {
  const { states, last } = train((gate) => Math.sin(gate), 10)
  for (const gate of [0, 1, 40]) {
    const half = states.slice(5).map(({ scores }) => at(scores, gate))
    expect(at(last.mean, gate)).toBeCloseTo(half.reduce((sum, score) => sum + score, 0) / 5, 5)
  }
})

test('without any gradient, scores and their mean stay as they were', () => {
  const { start, last } = train(() => 0, 5)
  expect(last.scores).toEqual(start)
  for (const gate of [0, 7]) expect(at(last.mean, gate)).toBeCloseTo(at(start, gate), 6)
})

test('the size of a gradient does not matter, but what it is among others', () => {
  const [small, large] = [train((gate) => 1e-9 * Math.cos(gate), 4), train((gate) => 1e9 * Math.cos(gate), 4)]
  for (const gate of [0, 2, 9]) expect(at(small.last.scores, gate)).toBeCloseTo(at(large.last.scores, gate), 5)
})
