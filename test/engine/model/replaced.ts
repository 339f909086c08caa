import type { Plan } from '#contract/pruning/plan.ts'
import { denseMlp } from '#engine/architectures/spec.ts'
import type { NamedTensor, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Model } from '#engine/model/model.ts'
import { replacedName } from '#engine/model/views/plan-tensors.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { Student } from '#engine/pruning/recovery/student.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { storeTensors } from '../../fixtures/store-tensors.ts'

/** The plan with all its remaining output and down projections replaced by seeded numbers of a weight's size, and their biases, if any. */
export async function replaceAll(model: Model, plan: Plan): Promise<{ plan: Plan; tensors: StoredTensors }> {
  const random = new PythonRandom(7)
  const tensors = new Map<string, NamedTensor>()
  const add = (name: string, shape: readonly number[]) => {
    const length = shape.reduce((product, size) => product * size, 1)
    tensors.set(name, { shape, values: Float32Array.from({ length }, () => (random.random() - 0.5) / 4) })
  }
  const blocks = plan.blocks.map((block, index) => {
    const { output } = model.spec.block(index)
    const { down } = denseMlp(model.spec.block(index))
    const width = block.mlp === 'removed' ? 0 : block.mlp.kept === 'all' ? down.columns : block.mlp.kept.length
    const replaced = [...(block.attention === 'kept' ? (['output'] as const) : []), ...(width > 0 ? (['down'] as const) : [])]
    for (const projection of replaced) {
      const { rows, columns, bias } = { output, down }[projection]
      add(replacedName(index, projection, 'weight'), [rows, projection === 'down' ? width : columns])
      if (bias) add(replacedName(index, projection, 'bias'), [rows])
    }
    return replaced.length > 0 ? { ...block, replaced } : block
  })
  return { plan: { ...plan, blocks }, ...(await storeTensors({ tensors })) }
}

/** The plan with all its remaining tensors and the final norm changed by a tenth and seeded noise, named as a recovery names them. */
export async function recoverAll(model: Model, plan: Plan): Promise<{ plan: Plan; tensors: StoredTensors }> {
  const view = viewWithPlan(model, plan)
  const student = await Student.open(model, view.spec, plan, undefined)
  view.dispose()
  student.release()
  const random = new PythonRandom(7)
  for (const { values } of student.masters.values())
    for (const [i, value] of values.entries()) values[i] = 1.1 * value + (random.random() - 0.5) / 8
  const stored = await storeTensors({ tensors: student.tensors() })
  student.dispose()
  return { plan: student.planFor(plan), tensors: stored.tensors }
}
