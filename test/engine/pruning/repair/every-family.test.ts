import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Plan } from '#contract/plan.ts'
import { repairKind } from '#contract/repair.ts'
import type { Windows } from '#engine/data/windows.ts'
import { findFormat } from '#engine/export/index.ts'
import { openModel } from '#engine/model/model.ts'
import { DecodingSession } from '#engine/model/session.ts'
import { denseView, type ModelView, viewWithPlan } from '#engine/model/view.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { familyModels, fullModels, variedModels } from '../../../fixtures/reference.ts'
import { openReference, recordedRun } from '../running.ts'

/** Half the neurons of every block and the attention of block 1. */
function halved(view: ModelView): Plan {
  return {
    blocks: view.spec.blocks.map(({ width }, block) => ({
      attention: block === 1 ? 'removed' : 'kept',
      mlp: { kept: Array.from({ length: Math.ceil(width / 2) }, (_, i) => 2 * i).filter((i) => i < width) },
    })),
  }
}

async function logits(view: ModelView, [first]: Windows): Promise<Float32Array> {
  const session = new DecodingSession(view)
  const [row] = await session.feed((first as Int32Array).slice(0, 24), 1)
  session.dispose()
  view.dispose()
  return row as Float32Array
}

describe.each([...fullModels, ...variedModels, ...familyModels])('%s', (name) => {
  const open = openReference(name)
  const windows = () =>
    open()
      .calibration.slice(0, 9)
      .map((window) => window.slice(0, 48))

  test.each(repairKind.options)('%s: errors fall, and the saved model answers as the view', async (kind) => {
    const { model } = open()
    const plan = halved(denseView(model))
    const repaired = await repairPlan({ view: denseView(model), plan, windows: windows(), kind, run: recordedRun() })
    const fell = repaired.projections.filter(({ before, after }) => after < before)
    expect(fell.length).toBeGreaterThan(1)
    const folder = await mkdtemp(join(tmpdir(), 'espalier-repair-'))
    try {
      const saved = { model, plan: repaired.plan, method: '2ssp', folder: join(folder, 'saved') }
      await findFormat('stock').write({ ...saved, ...(repaired.tensors ? { tensors: repaired.tensors } : {}) })
      const expected = await logits(viewWithPlan(model, repaired.plan, repaired.tensors), windows())
      const reopened = await openModel(saved.folder)
      expect([...(await logits(denseView(reopened), windows()))]).toEqual([...expected])
      await reopened.close()
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
})
