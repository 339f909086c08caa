import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test, vi } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RepairKind } from '#contract/pruning/repair.ts'
import { algebra } from '#engine/algebra/openblas.ts'
import { ownAlgebra } from '#engine/algebra/own.ts'
import { replacedName } from '#engine/model/views/plan-tensors.ts'
import { denseView } from '#engine/model/views/view.ts'
import { Walk } from '#engine/model/walk.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { openReference, recordedRun } from '../running.ts'

interface Expected {
  readonly model: 'stories260k' | 'phi-tiny'
  readonly title: string
  /** For each part: kept, removed, or its kept neurons. */
  readonly plan: readonly (boolean | number[])[]
  readonly kind: 'one-pass' | 'in-order'
  readonly projections: {
    readonly part: number
    readonly ridge: number
    readonly before: number
    readonly after: number
    readonly largest: number
    /** Every seventh entry, float32 in base64; null where the old weights stay. */
    readonly weight: string | null
  }[]
}

const file = join(import.meta.dirname, '..', '..', '..', 'fixtures', 'repair', 'expected.json.gz')
const all = JSON.parse(gunzipSync(await readFile(file)).toString()) as Expected[]

function planOf(parts: Expected['plan']): Plan {
  return {
    blocks: Array.from({ length: parts.length / 2 }, (_, block) => {
      const mlp = parts[2 * block + 1]
      return {
        attention: parts[2 * block] === false ? 'removed' : 'kept',
        mlp: mlp === false ? 'removed' : { kept: Array.isArray(mlp) ? mlp : 'all' },
      }
    }),
  }
}

describe.each(['stories260k', 'phi-tiny'] as const)('%s', (name) => {
  const open = openReference(name)
  const windows = () =>
    open()
      .calibration.slice(0, 12)
      .map((window) => window.slice(0, 64))

  test.each(all.filter(({ model }) => model === name))('$title $kind: weights as numpy makes them in float64', async (expected) => {
    const view = denseView(open().model)
    const before = memory().numTensors
    const { projections, tensors } = await repairPlan({
      view,
      plan: planOf(expected.plan),
      windows: windows(),
      kind: expected.kind,
      run: recordedRun(),
    })
    expect(memory().numTensors).toBeLessThanOrEqual(before + 100)
    expect(projections.map(({ block, projection }) => 2 * block + (projection === 'down' ? 1 : 0))).toEqual(
      expected.projections.map(({ part }) => part),
    )
    for (const [index, projection] of expected.projections.entries()) {
      const own = projections[index] as (typeof projections)[number]
      expect(own.before).toBeCloseTo(projection.before, 4)
      expect(own.after).toBeCloseTo(projection.after, 4)
      expect(own.ridge).toBe(projection.ridge)
      const name = replacedName(own.block, own.projection, 'weight')
      expect(tensors?.tensors.has(name)).toBe(projection.weight !== null)
      if (!projection.weight) continue
      const values = await tensors?.readFloat32(name)
      const bytes = Buffer.from(projection.weight, 'base64')
      const entries = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
      const differences = Array.from(entries, (value, i) => Math.abs((values?.[7 * i] ?? Number.NaN) - value))
      expect(Math.max(...differences)).toBeLessThan(1e-4 * projection.largest)
    }
  })

  test.each(['one-pass', 'in-order'] as const)('%s repairs nothing where nothing is removed', async (kind) => {
    const { model } = open()
    const plan = densePlan(model.spec)
    const repaired = await repairPlan({ view: denseView(model), plan, windows: windows(), kind, run: recordedRun() })
    expect(repaired).toEqual({ plan, tensors: undefined, projections: [] })
  })
})

describe('a repair in a memory that', () => {
  const open = openReference('stories260k')
  const [depth] = all.filter(({ model, title, kind }) => model === 'stories260k' && title === 'depth' && kind === 'one-pass')
  // Streams of 12 windows of 64 tokens, 64 wide: before and after a segment, and in order those of the repaired model. The sums of
  // fitted and held-out windows, of at most 172 columns, and without OpenBLAS a factor; both changes of the weights, and a product.
  const equations = 8 * ((algebra() === ownAlgebra ? 3 : 2) * 172 ** 2 + 5 * 172 * 64)
  const least = { 'one-pass': 4 * 12 * 64 * 64 * 2 + equations, 'in-order': 4 * 12 * 64 * 64 * 3 + equations }
  const repairIn = (workspaceBytes: number, kind: RepairKind) => {
    const windows = open()
      .calibration.slice(0, 12)
      .map((window) => window.slice(0, 64))
    const view = denseView({ ...open().model, workspaceBytes })
    return repairPlan({ view, plan: planOf((depth as Expected).plan), windows, kind, run: recordedRun() })
  }

  test.each(['one-pass', 'in-order'] as const)(
    'cannot keep what projections read %s computes it again, with the same weights',
    async (kind) => {
      const complete = vi.spyOn(Walk.prototype, 'complete')
      const [kept, again] = [await repairIn(1e9, kind), await repairIn(least[kind], kind)]
      // With room, each projection of the repaired model goes on from its inputs. Models are equal before the first, and the last is not left.
      expect(complete).toHaveBeenCalledTimes(kind === 'in-order' ? kept.projections.length - 2 : 0)
      complete.mockRestore()
      expect(again.projections).toEqual(kept.projections)
      expect(kept.tensors?.tensors.size).toBeGreaterThan(0)
      for (const name of kept.tensors?.tensors.keys() ?? [])
        expect(await again.tensors?.readFloat32(name)).toEqual(await kept.tensors?.readFloat32(name))
    },
  )

  test('has no place for the streams is refused with the number of windows that have', async () => {
    await expect(repairIn(least['one-pass'] - 1, 'one-pass')).rejects.toThrow('Use at most 11 windows')
  })
})

describe('a repair that was killed', () => {
  const open = openReference('stories260k')
  const [narrow] = all.filter(({ model, title, kind }) => model === 'stories260k' && title === 'narrow' && kind === 'in-order')

  test.each([1, 4, 7])('after %i projections resumes there and ends the same way', async (stopAfter) => {
    const windows = open()
      .calibration.slice(0, 10)
      .map((window) => window.slice(0, 32))
    const input = { view: denseView(open().model), plan: planOf((narrow as Expected).plan), windows, kind: 'in-order' } as const
    const whole = await repairPlan({ ...input, run: recordedRun() })
    const steps = new Map<string, string>()
    await expect(repairPlan({ ...input, run: recordedRun(0, steps, stopAfter) })).rejects.toThrow('killed')
    const again = recordedRun(0, steps)
    const resumed = await repairPlan({ ...input, run: again })
    expect(again.computed).toHaveLength(whole.projections.length - stopAfter)
    expect(resumed.projections).toEqual(whole.projections)
    for (const name of whole.tensors?.tensors.keys() ?? [])
      expect(await resumed.tensors?.readFloat32(name)).toEqual(await whole.tensors?.readFloat32(name))
    const embed = vi.spyOn(input.view.model.vocabulary, 'embed')
    const found = await repairPlan({ ...input, run: recordedRun(0, steps) })
    expect(found.plan).toEqual(whole.plan)
    expect(embed, 'windows move although nothing is left to solve').not.toHaveBeenCalled()
    embed.mockRestore()
  })
})

describe('what cannot be repaired is refused before any window is run', () => {
  const open = openReference('stories260k')

  test.each([
    ['a sliced plan', (plan: Plan): Plan => ({ ...plan, slice: { width: 32 } }), 2, 'sliced'],
    [
      'cut channels',
      ({ blocks }: Plan): Plan => ({ blocks: blocks.map((block) => ({ ...block, mlp: { kept: 'all', inputs: [1] } })) }),
      2,
      'channels',
    ],
    ['a single window', (plan: Plan): Plan => plan, 1, '2 windows'],
  ])('%s', async (_, change, count, words) => {
    const { model, calibration } = open()
    const plan = change(densePlan(model.spec))
    const repair = repairPlan({ view: denseView(model), plan, windows: calibration.slice(0, count), kind: 'one-pass', run: recordedRun() })
    await expect(repair).rejects.toThrow(words)
  })
})

describe('an MLP whose plan lists all of its neurons', () => {
  const open = openReference('stories260k')

  test('is left as it is, because fitting it would decide by rounding', async () => {
    const { model, calibration } = open()
    const all = Array.from({ length: model.spec.blocks[0]?.width ?? 0 }, (_, i) => i)
    const blocks = densePlan(model.spec).blocks.map((block, index) => {
      if (index === 4) return { ...block, attention: 'removed' as const, mlp: { kept: all } }
      return { ...block, mlp: { kept: all.slice(index === 0 ? 20 : 0) } }
    })
    const { projections } = await repairPlan({
      view: denseView(model),
      plan: { blocks },
      windows: calibration.slice(0, 4),
      kind: 'one-pass',
      run: recordedRun(),
    })
    // The first lost neurons, and the fourth takes over the attention of the last block.
    expect(projections.map(({ block, projection }) => `${block} ${projection}`)).toEqual(['0 down', '3 down'])
  })
})
