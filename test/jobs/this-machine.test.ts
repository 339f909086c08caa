import { totalmem } from 'node:os'
import { expect, test } from 'vitest'
import { parseDevices, processorSlots } from '#jobs/this-machine.ts'

const two = '0, GPU-aaaa1111, NVIDIA L4\n1, GPU-bbbb2222, NVIDIA H100 PCIe\n\nNo devices were found\n'
const seen = (visible?: string) =>
  parseDevices(two, visible).map(({ id, title, environment }) => [id, title, environment.CUDA_VISIBLE_DEVICES])

test('each GPU is a device that sees only itself', () => {
  expect(seen()).toEqual([
    ['gpu-0', 'NVIDIA L4', '0'],
    ['gpu-1', 'NVIDIA H100 PCIe', '1'],
  ])
})

test.each([
  ['1', ['1']],
  ['1,0', ['1', '0']],
  ['GPU-bbbb', ['1']],
  ['', []],
  ['-1', []],
  ['1,7,0', ['1']],
])('of the GPUs only those are used that CUDA_VISIBLE_DEVICES=%s leaves', (visible, expected) => {
  expect(seen(visible).map(([, , index]) => index)).toEqual(expected)
})

test('slots share threads and memory, and see no GPU that others use', () => {
  expect(processorSlots(null, 0)).toMatchObject([{ id: 'cpu', environment: {} }])
  expect(processorSlots(null, 2)).toEqual([])
  const slots = processorSlots(2, 1)
  expect(slots.map(({ id }) => id)).toEqual(['cpu-1', 'cpu-2'])
  for (const { environment } of slots) {
    expect(environment.CUDA_VISIBLE_DEVICES).toBe('')
    expect(Number(environment.ESPALIER_MEMORY)).toBeLessThanOrEqual(totalmem() / 2)
    expect(Number(environment.TF_NUM_INTRAOP_THREADS)).toBeGreaterThanOrEqual(1)
  }
})
