import {
  add,
  dispose,
  keep,
  matMul,
  memory,
  mul,
  type Rank,
  randomNormal,
  sum,
  type Tensor2D,
  type TensorContainer,
  tidy,
} from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { DecoderSpec, RouterKind } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { MixtureWeights, MlpWeights } from '#engine/model/weights/weights.ts'
import { mixtureBackward, mixtureForward } from '#engine/pruning/gates/gated-mixture.ts'
import type { Observed } from '#engine/pruning/gates/observed.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'

await openBackend(testedBackend)

const [hidden, width, count, rows] = [12, 7, 5, 6]
const normal = <R extends Rank>(shape: number[], seed: number, deviation = 1) =>
  randomNormal<R>(shape as never, 0, deviation, 'float32', seed)

function expert(seed: number, biased: boolean): MlpWeights {
  const bias = (size: number, own: number) => normal<Rank.R1>([size], seed + own)
  return {
    gate: normal<Rank.R2>([width, hidden], seed, 0.3),
    up: normal<Rank.R2>([width, hidden], seed + 1, 0.3),
    down: normal<Rank.R2>([hidden, width], seed + 2, 0.3),
    ...(biased ? { gateBias: bias(width, 3), upBias: bias(width, 4), downBias: bias(hidden, 5) } : {}),
  }
}

const router: Pick<RouterKind, 'countKeys' | 'widthKey'> = { countKeys: [], widthKey: '' }
const kinds: { name: string; kind: RouterKind; biased?: boolean; shared?: boolean }[] = [
  { name: 'softmax, divided by the sum of the chosen', kind: { ...router, chosen: 2, scores: 'softmax', renormalised: true } },
  { name: 'softmax over all experts', kind: { ...router, chosen: 2, scores: 'softmax', renormalised: false } },
  { name: 'sigmoid, scaled, with biases', kind: { ...router, chosen: 3, scores: 'sigmoid', renormalised: true, scale: 2.5 }, biased: true },
  {
    name: 'sigmoid alone, with a gated shared expert',
    kind: { ...router, chosen: 2, scores: 'sigmoid', renormalised: false },
    shared: true,
  },
]

describe.each(kinds)('a mixture with a router of $name', ({ kind, biased = false, shared = false }) => {
  test('its gradients are the slopes of its output', async () => {
    const spec = { router: kind, activation: 'silu' } as DecoderSpec
    const weights: MixtureWeights = {
      norm: { kind: 'rms', epsilon: 1e-5, weight: normal<Rank.R1>([hidden], 1) },
      router: normal<Rank.R2>([count, hidden], 2, 0.5),
      experts: Array.from({ length: count }, (_, index) => expert(10 * (index + 1), biased)),
      ...(shared ? { shared: expert(90, false), sharedGate: normal<Rank.R2>([1, hidden], 3) } : {}),
    }
    const source = normal<Rank.R2>([rows, hidden], 4) as Tensor2D
    const direction = normal<Rank.R2>([rows, hidden], 5) as Tensor2D
    const outer = normal<Rank.R2>([rows, hidden], 6) as Tensor2D
    const before = memory().numTensors
    const call = { spec, products: 'float32' as const, batch: 2 }
    const gates = Array.from({ length: count }, (_, index) => 0.5 + 0.1 * index)
    const factors = outer.dataSync()
    /** The output's product with a fixed direction, whose gradient is that direction. */
    const lossAt = async (along: number, own = gates, output = 1) => {
      const moved: Tensor2D = tidy(() => add(source, mul(direction, along)))
      const { output: found, kept } = await mixtureForward(moved, weights, call, own)
      const choices = JSON.stringify([...kept.routes].map(([index, { rows: chosen }]) => [index, [...chosen]]))
      const loss = (found.dataSync() as Float32Array).reduce((sum, value, i) => sum + value * (factors[i] as number), 0) * output
      dispose([moved, found, kept.source])
      return { loss, choices }
    }
    const { kept, output } = await mixtureForward(source, weights, call, gates)
    output.dispose()
    const found = await mixtureBackward(kept, weights, outer, call, { experts: gates, output: 1 })
    const [gradient, step] = [(found.source as Tensor2D).dataSync(), 1e-3]
    const along = (direction.dataSync() as Float32Array).reduce((sum, value, i) => sum + value * (gradient[i] as number), 0)
    const [up, down] = [await lossAt(step), await lossAt(-step)]
    expect(up.choices, 'the router chooses the same experts').toBe(down.choices)
    expect((up.loss - down.loss) / (2 * step)).toBeCloseTo(along, 1)
    expect(Math.abs((up.loss - down.loss) / (2 * step) - along)).toBeLessThan(0.01 * Math.abs(along))

    const both = (values: Float32Array, index: number) => (values[index] as number) + (values[values.length / 2 + index] as number)
    for (let index = 0; index < count; index++) {
      const moved = (by: number) => gates.map((gate, own) => (own === index ? gate + by : gate))
      const slope = ((await lossAt(0, moved(0.01))).loss - (await lossAt(0, moved(-0.01))).loss) / 0.02
      expect(both(found.experts, index)).toBeCloseTo(slope, 2)
    }
    const whole = (await lossAt(0)).loss
    expect(both(found.output, 0)).toBeCloseTo(whole, 2)

    // What an expert's projections had on the way back makes the gradients of their weights.
    const [chosen = 0] = kept.routes.keys()
    const own = weights.experts[chosen] as Record<Observed['projection'], Tensor2D>
    const byWeights = new Map<string, { slope: number; step: Tensor2D }>()
    const observe = ({ projection, inputs, gradient, expert }: Observed) => {
      expect([expert?.index !== undefined, expert?.of]).toEqual([true, count])
      if (expert?.index !== chosen) return
      const step = keep(normal<Rank.R2>(own[projection].shape, 7) as Tensor2D)
      const slope = tidy(() => sum(mul(step, matMul(gradient, inputs, true))).dataSync()[0] as number)
      byWeights.set(projection, { slope, step })
    }
    const seen = await mixtureBackward(kept, weights, outer, { ...call, observe }, { output: 1 })
    seen.source?.dispose()
    expect([...byWeights.keys()].sort()).toEqual(['down', 'gate', 'up'])
    for (const [projection, { slope, step: way }] of byWeights) {
      const lossWith = async (by: number) => {
        const moved: Tensor2D = tidy(() => add(own[projection as 'up'], mul(way, by)))
        const experts = weights.experts.map((expert, index) => (index === chosen ? { ...expert, [projection]: moved } : expert))
        const { output: found, kept } = await mixtureForward(source, { ...weights, experts } as MixtureWeights, call, undefined)
        const loss = tidy(() => sum(mul(found, outer)).dataSync()[0] as number)
        dispose([moved, found, kept.source])
        return loss
      }
      const measured = ((await lossWith(0.01)) - (await lossWith(-0.01))) / 0.02
      expect(Math.abs(measured - slope), projection).toBeLessThan(0.01 * Math.abs(slope) + 1e-3)
      way.dispose()
    }

    const closed = await mixtureBackward(kept, weights, outer, call, { experts: gates, output: 0 })
    expect(closed.source).toBeUndefined()
    expect(both(closed.output, 0)).toBeCloseTo(whole, 2)
    dispose([found.source as Tensor2D, kept.source])
    // Neither pass leaves tensors behind.
    expect(memory().numTensors).toBe(before)
    dispose([source, direction, outer])
    dispose(weights as unknown as TensorContainer)
  })
})
