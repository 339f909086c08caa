import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { likelyPlans, requireFormats } from '#engine/export/check-save.ts'
import { openSpec } from '#engine/model/model.ts'
import type { Method } from '#engine/pruning/method.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { unsavableModels } from './unsavable.ts'

const place = scratchFolder('unsavable')

describe('a format that cannot hold a model', () => {
  it.each(unsavableModels)(
    'says so before any weight is read: $name',
    async ({ name, make, method: id, format, ggufType = 'F16', says }) => {
      const folder = join(place, name.replace(/\W+/g, '-'))
      await make(folder)
      const { checkpoint, spec } = await openSpec(folder)
      const method: Method = findMethod(id)
      const [plan = densePlan(spec)] = likelyPlans(spec, method.unit, { attentionRemoved: 1, blocksRemoved: 0, neuronsRemovedPerBlock: 4 })
      await expect(requireFormats({ model: { checkpoint, spec }, plan }, [format], [ggufType])).rejects.toThrow(says)
      await checkpoint.close()
    },
  )
})
