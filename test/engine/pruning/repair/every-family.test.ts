import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { repairKind } from '#contract/pruning/repair.ts'
import type { FormatId } from '#contract/titles.ts'
import { findFormat } from '#engine/export/index.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { lacksAvx512 } from '../../../fixtures/processor-features.ts'
import { familyModels, fullModels, type ReferenceModel } from '../../../fixtures/reference.ts'
import { scratchOfTest } from '../../../fixtures/scratch.ts'
import { logitsOf, relativeError } from '../../model/logits.ts'
import { openReference, recordedRun } from '../running.ts'

/** Removes half of the neurons of every block, and the attention of block 1. */
function halved(view: ModelView): Plan {
  return {
    blocks: view.spec.blocks.map(({ width }, block) => ({
      attention: block === 1 ? 'removed' : 'kept',
      mlp: { kept: Array.from({ length: Math.ceil(width / 2) }, (_, i) => 2 * i).filter((i) => i < width) },
    })),
  }
}

const squares = (values: readonly number[]): number => values.reduce((sum, value) => sum + value ** 2, 0)

/** The formats that repaired models of a family are saved in, by the kind of repair. */
const formatsOf = { 'one-pass': ['stock'], 'in-order': ['exact', 'gguf'] } as const satisfies Record<string, readonly FormatId[]>
/** Families that a GGUF file cannot hold. */
const withoutGguf: readonly ReferenceModel[] = ['gemma2', 'gemma3', 'qwen3_5']

/** Sequential models with gated MLPs whose norms, projections and biases are those of `stories260k`, `olmo3` and `phi3-tiny`. */
const likeOthers: readonly ReferenceModel[] = ['mistral-tiny', 'olmo2', 'phi4-mini']

describe.each([...fullModels, ...familyModels].filter((name) => !likeOthers.includes(name)))('%s', (name) => {
  const open = openReference(name)
  /**
   * One window, eight times, so the held-out one was fitted on too. These models have random weights, so what is kept says nothing about
   * what was removed: on unseen text no fit helps, and the number of lower errors is chance. On seen text a least-squares fit must lower
   * every error, otherwise its sums, targets or solution are wrong.
   */
  const windows = () => Array.from({ length: 8 }, () => (open().calibration[0] as Int32Array).slice(0, 64))

  test.each(repairKind.options)(
    '%s: every error falls on seen text, the model comes nearer to the dense one, and answers the same when saved',
    async (kind) => {
      const { model } = open()
      const [window] = windows() as [Int32Array]
      const plan = halved(denseView(model))
      const repaired = await repairPlan({ view: denseView(model), plan, windows: windows(), kind, run: recordedRun() })
      expect(repaired.projections.filter(({ before, after }) => !(after < before))).toEqual([])
      const dense = (await logitsOf(denseView(model), window)).flat()
      const [pruned, view] = [viewWithPlan(model, plan), viewWithPlan(model, repaired.plan, repaired.tensors)]
      const [before, after] = [(await logitsOf(pruned, window)).flat(), (await logitsOf(view, window)).flat()]
      const distance = (logits: readonly number[]) => squares(logits.map((value, i) => value - (dense[i] as number))) / squares(dense)
      expect(distance(after)).toBeLessThan((kind === 'in-order' ? 0.5 : 1) * distance(before))
      const folder = scratchOfTest('repair')
      try {
        for (const format of formatsOf[kind]) {
          if (format === 'gguf' && withoutGguf.includes(name)) continue
          const saved = { model, plan: repaired.plan, method: '2ssp', folder: join(folder, format), ggufTypes: ['F32'] }
          await findFormat(format).write({ ...saved, ...(repaired.tensors ? { tensors: repaired.tensors } : {}) })
          const reopened = await openModel(saved.folder)
          expect(relativeError((await logitsOf(denseView(reopened), window)).flat(), after), format).toBeLessThan(lacksAvx512 ? 3e-6 : 2e-6)
          await reopened.close()
        }
      } finally {
        for (const one of [pruned, view]) one.dispose()
      }
    },
  )

  test('a plan that removes nothing stays unchanged', async () => {
    const view = denseView(open().model)
    const plan = densePlan(view.spec)
    for (const kind of repairKind.options) {
      const repaired = await repairPlan({ view, plan, windows: windows(), kind, run: recordedRun() })
      expect(repaired).toEqual({ plan, tensors: undefined, projections: [] })
    }
  })
})
