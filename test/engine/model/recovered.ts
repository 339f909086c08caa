import type { Plan } from '#contract/pruning/plan.ts'
import type { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Model } from '#engine/model/model.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { Student } from '#engine/pruning/recovery/student.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { storeTensors } from '../../fixtures/store-tensors.ts'

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
