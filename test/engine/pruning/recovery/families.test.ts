import { describe, expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { trainedShapes } from '#engine/pruning/recovery/recovery-budget.ts'
import type { Master } from '#engine/pruning/recovery/student.ts'
import { openReference } from '../running.ts'
import { batchOf, denseStates, gradientsOf, lengthOf, openTraining, tokensFor, trainedModels } from './training.ts'

/** Removes half of the first block's neurons and, if there are three blocks, the attention of the second and the MLP of the third. */
function planFor({ blocks }: DecoderSpec): Plan {
  return {
    blocks: blocks.map(({ width }, block) => ({
      attention: block === 1 && blocks.length > 2 ? 'removed' : 'kept',
      mlp:
        block === 0
          ? { kept: Array.from({ length: width >> 1 }, (_, i) => 2 * i) }
          : block === 2 && blocks.length > 3
            ? 'removed'
            : { kept: 'all' },
    })),
  }
}

/** How far weights are moved along a gradient, as a share of their length. */
const reach = 0.001

/**
 * Whether a tensor comes after every DeltaNet. A DeltaNet normalises each token's input, which is close to zero in the first ones, so the
 * loss jumps when a sign changes and a finite difference is no slope. `delta-net.test.ts` checks the gradients of one.
 */
function isBehindDeltas(key: string, spec: DecoderSpec): boolean {
  const last = spec.blocks.findLastIndex((_, block) => spec.block(block).delta)
  const [, block, submodule] = /^blocks\.(\d+)\.(\w+)/.exec(key) ?? []
  return block === undefined || Number(block) > last || (Number(block) === last && submodule === 'mlp')
}

/** Submodules of one kind run the same code, so the first and the last of each kind that the plan leaves are enough. */
function checkedSubmodules(spec: DecoderSpec, plan: Plan): Set<string> {
  const left = plan.blocks.flatMap(({ attention, mlp }, block) => {
    const { delta } = spec.block(block)
    return [
      ...(attention === 'removed'
        ? []
        : [{ key: `blocks.${block}.attention`, kind: `${delta !== undefined} ${spec.slidingWindow(block)}` }]),
      ...(mlp === 'removed' ? [] : [{ key: `blocks.${block}.mlp`, kind: `MLP ${mlp.kept === 'all'}` }]),
    ]
  })
  return new Set([...Map.groupBy(left, ({ kind }) => kind).values()].flatMap((own) => [at(own, 0).key, at(own, own.length - 1).key]))
}

describe.each(trainedModels)('%s', (name) => {
  const open = openReference(name)

  // Factors get the same gradients in every family and block: two families are enough, one with fused projections, and two blocks of them.
  test.each(['llama3-rope', 'phi3-tiny'].includes(name) ? [false, true] : [false])(
    'every gradient is the slope of the divergence along it, low rank: %s',
    async (lowRank) => {
      const { model, calibration } = open()
      const { spec } = model
      const windows = calibration.slice(0, 1).map((window) => window.slice(0, Math.max(64, tokensFor(spec))))
      const plan = planFor(spec)
      const checked = checkedSubmodules(spec, plan)
      const { student, trained, pass, dispose } = await openTraining(model, plan, { lowRank })
      // Factors that start at zero would leave the others without a gradient.
      if (lowRank)
        for (const { values } of trained.masters.values())
          for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) + 0.02 * Math.sin(i)
      await trained.refresh()
      const batch = batchOf(windows, await denseStates(model, windows))
      try {
        const { loss, gradients } = await gradientsOf(pass, batch)
        expect([...gradients.keys()].sort()).toEqual([...trained.masters.keys()].sort())
        expect([...trainedShapes(student.spec)].sort()).toEqual([...student.masters].map(([key, { shape }]) => [key, shape]).sort())
        const lossAt = async ({ values }: Master, direction: Float32Array, step: number) => {
          const before = Float32Array.from(values)
          trained.release()
          for (let i = 0; i < values.length; i++) values[i] = (before[i] as number) + step * (direction[i] as number)
          await trained.refresh()
          const moved = (await pass.loss(batch)) / batch.ids.length
          // The next loss computes the weights again from these values.
          trained.release()
          values.set(before)
          return moved
        }
        expect(loss).toBeGreaterThan(0)
        for (const [key, gradient] of gradients) {
          if (!isBehindDeltas(key, student.spec) || (lowRank && !/^blocks\.[01]\./.test(key))) continue
          const [submodule] = /^blocks\.\d+\.(attention|mlp)/.exec(key) ?? []
          if (submodule && !checked.has(submodule)) continue
          const master = trained.masters.get(key) as Master
          const length = lengthOf(gradient)
          const unit = gradient.map((value) => value / (length || 1))
          // Biases may be zero and then have no length.
          const step = reach * Math.max(lengthOf(master.values), 0.1 * Math.sqrt(gradient.length))
          const near = (await lossAt(master, unit, step)) - (await lossAt(master, unit, -step))
          const far = (await lossAt(master, unit, 2 * step)) - (await lossAt(master, unit, -2 * step))
          const slope = (8 * near - far) / (12 * step)
          // Float32 adds an error of about 1e-6 of a loss of 1 to a difference.
          expect(Math.abs(slope - length), `${key}: gradient ${length}, slope ${slope}`).toBeLessThan(0.005 * length + 3e-6 / step)
        }
      } finally {
        batch.dense.dispose()
        dispose()
      }
    },
  )
})
