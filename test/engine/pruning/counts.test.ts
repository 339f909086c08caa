import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { openCheckpoint } from '#engine/checkpoint/open-checkpoint.ts'
import { exact } from '#engine/export/exact/exact.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import { blockParts, densePlan, removeParts } from '#engine/pruning/plan.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { familyModels, fullModels, referenceModel, variedModels } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'

type MakePlan = (model: Model) => Plan

/** Each removes parts in a way that a count can easily get wrong. */
const plans: Record<string, MakePlan> = {
  'whole blocks': ({ spec }) => removeParts(densePlan(spec), blockParts([1, 2])),
  'both parts of a block, one by one': ({ spec }) => removeParts(removeParts(densePlan(spec), [2]), [3]),
  'an attention': ({ spec }) => removeParts(densePlan(spec), [2]),
  'an MLP': ({ spec }) => removeParts(densePlan(spec), [3]),
  // In a sequential family, what is left of both fits into one block.
  'the MLP of a block and the attention of the next': ({ spec }) => removeParts(densePlan(spec), [1, 2]),
  'the attention of a block and the MLP of the next': ({ spec }) => removeParts(densePlan(spec), [2, 5]),
  'neurons and an attention': ({ spec }) => {
    const plan = removeParts(densePlan(spec), [2])
    return { blocks: plan.blocks.map((block) => ({ ...block, mlp: { kept: [0, 2, 5] } })) }
  },
}

const entriesOf = ({ tensors }: Checkpoint): number =>
  [...tensors.values()].reduce((total, { shape }) => total + shape.reduce((size, side) => size * side, 1), 0)

describe('the parameters that a plan leaves', () => {
  const folder = scratchFolder('counts')
  beforeAll(async () => {
    await openBackend(testedBackend)
  })

  const names = [...fullModels, ...variedModels, ...familyModels]
  it.each(names)('match the entries of the folder that %s is saved to, whatever was removed', async (name) => {
    const model = await openModel(await referenceModel(name))
    for (const [what, make] of Object.entries(plans)) {
      const plan = make(model)
      const left = specWithPlan(model.spec, plan)
      const target = join(folder, `${name} ${what}`)
      await exact.write({ model, plan, method: 'test', folder: target })
      const saved = await openCheckpoint(target)
      expect(stackParameters(left) + Vocabulary.parameters(left), what).toBe(entriesOf(saved))
      expect((await describeModel(target)).parameters.stack, what).toBe(stackParameters(left))
      await saved.close()
    }
    await model.close()
  })
})
