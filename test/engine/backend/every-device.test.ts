import { beforeAll, describe, expect, test } from 'vitest'
import { listDevices } from '#engine/backend/list-devices.ts'
import { testAttention } from './every-device/attention.ts'
import { testBf16Ops } from './every-device/bf16-ops.ts'
import { computeOn, skippedBecause, testedDevices } from './every-device/devices.ts'
import { testFamilies } from './every-device/families.ts'
import { testMethods } from './every-device/methods.ts'
import { testOperations } from './every-device/operations.ts'
import { testStored } from './every-device/stored.ts'

// One file, so one process: Vulkan on a processor compiles each shader on first use, which takes longer than everything else.
describe.each(testedDevices)('%s', (device) => {
  const reason = skippedBecause(device)
  if (reason !== undefined) {
    test.skip(`does not run: ${reason}`)
    return
  }
  beforeAll(() => computeOn(device))
  testOperations(device)
  testAttention(device)
  testStored(device)
  if (device !== 'tensorflow-cpu') testBf16Ops()
  testFamilies(device)
  testMethods(device)

  test('is listed as the device in use', async () => {
    const backend = await computeOn(device)
    const used = (await listDevices(backend)).filter(({ usedBy }) => usedBy !== null)
    const kind = device === 'ggml-vulkan' ? 'gpu' : 'cpu'
    expect(used).toMatchObject([{ kind, usedBy: backend.title, driver: kind === 'gpu' ? expect.stringMatching(/^Vulkan, ./) : null }])
  })
})
