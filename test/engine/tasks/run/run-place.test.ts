import { tmpdir } from 'node:os'
import { expect, test } from 'vitest'
import { setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { releaseModel } from '#engine/model/kept-model.ts'
import { openPlace } from '#engine/tasks/run/run-place.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { hostIn } from '../../../fixtures/run-host.ts'
import { asOnGpu } from '../../backend/as-on-gpu.ts'

test('a run says that a model with sinks and limits was computed in float32, unless the precision was left to it', async () => {
  const own = await openBackend('tensorflow')
  setActiveBackend(asOnGpu('bfloat16'))
  const request = { model: await referenceModel('gpt_oss'), method: 'dense', amount: { sparsity: 0 }, options: {}, seed: 0, measures: [] }
  const open = async (precision: 'auto' | 'bfloat16') => {
    const asked = { ...request, precision, backend: 'tensorflow' as const }
    return (await openPlace(asked, hostIn(tmpdir()), own.name)).place
  }
  expect(await open('bfloat16')).toMatchObject({ precision: 'float32', notes: [expect.stringContaining('float32, not in bfloat16')] })
  expect(await open('auto')).toMatchObject({ precision: 'float32', notes: [] })
  await releaseModel()
  setActiveBackend(own)
})
