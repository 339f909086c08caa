import { chmodSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { env } from 'node:process'
import { expect, test } from 'vitest'
import { askDriver, readReport, sixteenBitTypeFor } from '#engine/backend/gpu-driver.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('driver')

const two = '0, GPU-aaaa1111, 22563, 8.9\n1, GPU-bbbb2222, 15000, 7.5\n'

test('of the GPUs that a process sees, it has the least memory and the oldest units', () => {
  expect(readReport(two)).toEqual({ freeBytes: 15000 * 2 ** 20, capability: 7.5 })
  expect(readReport(two, '0')).toEqual({ freeBytes: 22563 * 2 ** 20, capability: 8.9 })
  expect(readReport(two, 'GPU-bbbb')).toEqual({ freeBytes: 15000 * 2 ** 20, capability: 7.5 })
})

test.each(['', 'No devices were found\n', '0, GPU-aaaa1111, [N/A], [N/A]\n'])('a driver that says %j gives no numbers', (lines) => {
  expect(readReport(lines)).toEqual({})
})

test('a GPU that the process must not see does not count', () => {
  expect(readReport(two, '')).toEqual({})
  expect(readReport(two, 'MIG-cccc')).toEqual({})
})

test.each([
  [9, 'bfloat16'],
  [8, 'bfloat16'],
  [7.5, 'float16'],
  [7, 'float16'],
  [6.1, undefined],
  [undefined, undefined],
] as const)('compute capability %s multiplies %s', (capability, type) => {
  expect(sixteenBitTypeFor(capability === undefined ? {} : { capability })).toBe(type)
})

test.skipIf(process.platform === 'win32')('the driver is asked for the devices that CUDA_VISIBLE_DEVICES leaves', async () => {
  const program = join(folder, 'nvidia-smi')
  writeFileSync(program, `#!/bin/sh\necho "$@" > ${join(folder, 'asked')}\nprintf '${two.replaceAll('\n', '\\n')}'\n`)
  chmodSync(program, 0o755)
  const path = `${folder}${delimiter}${env.PATH}`
  expect(await askDriver({ PATH: path, CUDA_VISIBLE_DEVICES: '0' })).toEqual({ freeBytes: 22563 * 2 ** 20, capability: 8.9 })
  expect(await askDriver({ PATH: path })).toMatchObject({ capability: 7.5 })
})

test('a machine without the driver gives no numbers', async () => {
  expect(await askDriver({ PATH: join(folder, 'nothing') })).toEqual({})
})
