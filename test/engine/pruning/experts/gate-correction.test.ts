import { afterAll, beforeAll, expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import { isConstant, type MlpTensors } from '#engine/architectures/spec.ts'
import { runWindows } from '#engine/model/forward.ts'
import { denseView, type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { mlpOf } from '#engine/model/weights/weights.ts'
import { gateCorrections, requireRaisedGates } from '#engine/pruning/experts/gate-correction.ts'
import { openReference, relativeError } from '../running.ts'

/** An expert or a router as plain rows. */
type Rows = readonly (readonly number[])[]
interface Mixture {
  readonly router: Rows
  readonly experts: readonly { readonly gate: Rows; readonly up: Rows; readonly down: Rows }[]
}

const open = openReference('olmoe')
const kept = [0, 2, 3, 5, 6]
const chosen = 2
let windows: Int32Array[]
let dense: ModelView
beforeAll(() => {
  windows = open()
    .calibration.slice(0, 2)
    .map((window) => window.subarray(0, 40))
  dense = denseView(open().model)
})
afterAll(() => dense.dispose())

/** The plan that keeps the same experts in every block, and their factors. */
const planWith = (scales: readonly (number | null)[] = []): Plan => ({
  blocks: open().model.spec.blocks.map((_, block): BlockPlan => {
    const expertScale = scales[block]
    return { attention: 'kept', mlp: { kept: 'all', experts: kept, ...(expertScale ? { expertScale } : {}) } }
  }),
})

async function readMixture(block: number): Promise<Mixture> {
  const { checkpoint, spec } = open().model
  const rows = async ({ weight, rows, columns }: MlpTensors['up']): Promise<Rows> => {
    const values = await checkpoint.readFloat32(weight)
    return Array.from({ length: rows }, (_, row) => [...values.subarray(row * columns, (row + 1) * columns)])
  }
  const mixture = spec.block(block).mixture
  if (!mixture) throw new Error('No mixture.')
  const own = mixture.experts.filter((one): one is MlpTensors => !isConstant(one))
  const experts = own.map(async ({ gate, up, down }) => ({ gate: await rows(gate ?? up), up: await rows(up), down: await rows(down) }))
  return { router: await rows(mixture.router), experts: await Promise.all(experts) }
}

/** The output of a mixture of only these experts for one token, in plain float64: a softmax over them, the best two, not renormalised. */
function mixtureOutput({ router, experts }: Mixture, x: readonly number[], known: readonly number[]): number[] {
  const times = (rows: Rows, vector: readonly number[]) => rows.map((row) => row.reduce((sum, w, i) => sum + w * at(vector, i), 0))
  const logits = times(router, x)
  const all = known.reduce((sum, expert) => sum + Math.exp(at(logits, expert)), 0)
  const best = known.toSorted((a, b) => at(logits, b) - at(logits, a)).slice(0, chosen)
  return best.reduce<number[]>((sum, expert) => {
    const { gate, up, down } = at(experts, expert)
    const gates = times(gate, x)
    const inner = times(up, x).map((value, i) => (value * at(gates, i)) / (1 + Math.exp(-at(gates, i))))
    const factor = Math.exp(at(logits, expert)) / all
    return times(down, inner).map((value, i) => at(sum, i) + factor * value)
  }, new Array(x.length).fill(0))
}

/** The input and output of the first mixture, by token. */
async function firstMixture(view: ModelView): Promise<{ inputs: number[][]; outputs: number[][] }> {
  const found = { inputs: [] as number[][], outputs: [] as number[][] }
  await runWindows(view, windows, {
    observe(_group, part, { input, output }) {
      if (part !== mlpOf(0) || !output) return
      found.inputs.push(...input.arraySync())
      found.outputs.push(...output.arraySync())
    },
  })
  return found
}

const sumOf = (a: Rows, b: Rows, term: (x: number, y: number) => number): number =>
  a.reduce((sum, row, i) => row.reduce((total, x, j) => total + term(x, at(at(b, i), j)), sum), 0)
const distance = (a: Rows, b: Rows): number => sumOf(a, b, (x, y) => (x - y) ** 2)

test('the correction is the one of a plain computation, and brings the block closer to the whole one', async () => {
  const scales = await gateCorrections(dense, planWith(), windows, {})
  const mixture = await readMixture(0)
  const { inputs, outputs } = await firstMixture(dense)
  const whole = inputs.map((x) => mixtureOutput(mixture, x, [...mixture.experts.keys()]))
  const left = inputs.map((x) => mixtureOutput(mixture, x, kept))
  expect(distance(whole, outputs) / distance(whole, left)).toBeLessThan(1e-9)
  const expected = sumOf(whole, left, (x, y) => x * y) / sumOf(left, left, (x, y) => x * y)
  expect(expected).toBeLessThan(0.95)
  expect(scales[0]).toBeCloseTo(expected, 5)

  const errorOf = async (plan: Plan): Promise<number> => {
    const view = viewWithPlan(open().model, plan)
    const found = await firstMixture(view)
    view.dispose()
    return distance(found.outputs, outputs)
  }
  const [before, after] = [await errorOf(planWith()), await errorOf(planWith(scales))]
  expect(relativeError(before, distance(left, whole))).toBeLessThan(1e-6)
  expect(after).toBeLessThan(0.99 * before)
  expect(
    relativeError(
      after,
      sumOf(left, whole, (x, y) => (expected * x - y) ** 2),
    ),
  ).toBeLessThan(1e-6)
})

test('a model that holds constants is refused before it is read', () => {
  const { spec } = open().model
  requireRaisedGates(spec)
  const blocks = spec.blocks.map((block) => ({ ...block, constants: [1] }))
  expect(() => requireRaisedGates({ ...spec, blocks })).toThrow('Some experts of this model are constants')
})
