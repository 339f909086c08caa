import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import type { RepairKind } from '#contract/pruning/repair.ts'
import type { FormatId } from '#contract/titles.ts'
import type { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { findFormat } from '#engine/export/index.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { constantsName } from '#engine/model/views/plan-tensors.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { partSize, presentParts } from '#engine/model/weights/weights.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { type MixtureModel, mixtureModels, referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { scratchOfTest } from '../../../fixtures/scratch.ts'
import { storeTensors } from '../../../fixtures/store-tensors.ts'
import { logitsOf, relativeError } from '../../model/logits.ts'
import { openReference, recordedRun } from '../running.ts'

const gone = [1, 3, 4, 6]
const kept = [0, 2, 5, 7]

/**
 * Removes half of the experts, and half of the others' neurons; in some models removed experts become vectors, or the kept ones are scaled.
 */
function cut({ spec }: Model, name: MixtureModel): Plan {
  return {
    blocks: spec.blocks.map(({ width, experts }): BlockPlan => {
      const neurons = Array.from({ length: width / 2 }, (_, i) => 2 * i)
      if (experts === undefined) return { attention: 'kept', mlp: { kept: neurons } }
      const own = name === 'mixtral' ? { constants: gone } : name === 'olmoe' ? { expertScale: 0.8 } : {}
      return { attention: 'kept', mlp: { kept: 'all', experts: kept, keptByExpert: kept.map(() => neurons), ...own } }
    }),
  }
}

/** The vectors that replace experts. */
async function constantsOf({ spec }: Model, { blocks }: Plan): Promise<StoredTensors | undefined> {
  const found = blocks.flatMap(({ mlp }, block) => (mlp !== 'removed' && mlp.constants ? [block] : []))
  if (found.length === 0) return undefined
  const vectors = { shape: [gone.length, spec.hidden], values: new Float32Array(gone.length * spec.hidden).fill(0.01) }
  return (await storeTensors({ tensors: new Map(found.map((block) => [constantsName(block), vectors])) })).tensors
}

const squares = (values: readonly number[]): number => values.reduce((sum, value) => sum + value ** 2, 0)

const formatOf = (name: MixtureModel): FormatId =>
  name === 'qwen3_moe' ? 'gguf' : name === 'olmoe' || name === 'gpt_oss' ? 'stock' : 'exact'

/** All but `glm4_moe`, whose variant with groups covers everything it has. */
const models = mixtureModels.filter((name) => name !== 'glm4_moe')

describe.each(models)('%s', (name) => {
  const open = openReference(name)
  // A router that still picks constants sends fewer tokens to the others.
  const length = name === 'mixtral' ? 160 : 80
  /** One window, four times: on seen text a least-squares fit must lower the error, otherwise its sums, targets or solution are wrong. */
  const windows = () => Array.from({ length: 4 }, () => (open().calibration[0] as Int32Array).slice(0, length))
  const kind: RepairKind = name === 'olmoe' ? 'one-pass' : 'in-order'

  test(`${kind}: every mixture's error falls on seen text, the model comes nearer to the dense one, and answers the same when saved`, async () => {
    const { model } = open()
    const [window] = windows() as [Int32Array]
    const plan = cut(model, name)
    const tensors = await constantsOf(model, plan)
    const steps = new Map<string, string>()
    const repair = (run = recordedRun(0, steps)) => repairPlan({ view: denseView(model), plan, tensors, windows: windows(), kind, run })
    const repaired = await repair()
    expect(repaired.projections.filter(({ before, after }) => !(after < before))).toEqual([])
    expect(repaired.projections.filter(({ experts }) => experts?.replaced === 0)).toEqual([])
    const dense = (await logitsOf(denseView(model), window)).flat()
    const views = [viewWithPlan(model, plan, tensors), viewWithPlan(model, repaired.plan, repaired.tensors)] as const
    const [before, after] = [(await logitsOf(views[0], window)).flat(), (await logitsOf(views[1], window)).flat()]
    for (const view of views) view.dispose()
    const distance = (logits: readonly number[]) => squares(logits.map((value, i) => value - (dense[i] as number))) / squares(dense)
    expect(distance(after)).toBeLessThan(distance(before))
    const folder = scratchOfTest('repaired-experts')
    const saved = { model, plan: repaired.plan, method: '2ssp', folder: join(folder, 'saved'), ggufTypes: ['F32'] }
    await findFormat(formatOf(name)).write({ ...saved, ...(repaired.tensors ? { tensors: repaired.tensors } : {}) })
    const reopened = await openModel(saved.folder)
    expect(relativeError((await logitsOf(denseView(reopened), window)).flat(), after)).toBeLessThan(2e-6)
    await reopened.close()
    if (name !== 'olmoe') return
    const again = recordedRun(0, steps)
    expect((await repair(again)).plan).toEqual(repaired.plan)
    expect(again.computed).toEqual([])
  })
})

describe('experts', () => {
  const open = openReference('olmoe')

  test('that few tokens chose keep their weights', async () => {
    const { model, calibration } = open()
    const plan = cut(model, 'olmoe')
    const few = calibration.slice(0, 2).map((window) => window.subarray(0, 32))
    const { projections, ...left } = await repairPlan({ view: denseView(model), plan, windows: few, kind: 'one-pass', run: recordedRun() })
    expect(left).toEqual({ plan, tensors: undefined })
    expect(projections.map(({ experts }) => experts)).toEqual(plan.blocks.map(() => ({ replaced: 0, fitted: 0, all: kept.length })))
  })

  test('that are read one by one are repaired as in memory, also some experts at a time', async () => {
    const path = await referenceModel('glm4_moe-groups')
    const [window = new Int32Array()] = await referenceWindows('calibration')
    const windows = Array.from({ length: 4 }, () => window.slice(0, 80))
    const found: unknown[] = []
    let least = 2 ** 30
    for (const room of [2 ** 28, 800_000]) {
      const model = { ...(await openModel(path, least)), workspaceBytes: room }
      const plan = cut(model, 'glm4_moe-groups')
      const repaired = await repairPlan({ view: denseView(model), plan, windows, kind: 'in-order', run: recordedRun() })
      const view = viewWithPlan(model, repaired.plan, repaired.tensors)
      found.push({ projections: repaired.projections, logits: squares((await logitsOf(view, window)).flat()) })
      expect(model.store.residency).toBe(least === 2 ** 30 ? 'resident' : 'streamed')
      const sizes = presentParts(model.spec).map((part) => partSize(model.checkpoint, model.spec, part).byExpert)
      least = Math.ceil((2 * Math.max(...sizes)) / 0.75)
      view.dispose()
      await model.close()
    }
    expect(found[1]).toEqual(found[0])
  })
})
