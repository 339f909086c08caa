import { chmodSync, writeFileSync } from 'node:fs'
import { totalmem } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { ggmlDevices } from '#engine/backend/ggml/ggml-devices.ts'
import { listDevices } from '#engine/backend/list-devices.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('devices')
afterEach(() => vi.unstubAllEnvs())

const onProcessor = { name: 'tensorflow-cpu', title: 'TensorFlow on the CPU', reason: 'No NVIDIA GPU was found.' } as const

test('ggml finds this processor', () => {
  const found = ggmlDevices().find(({ isGpu }) => !isGpu)
  expect(found).toMatchObject({ name: 'CPU' })
  expect(found?.totalBytes).toBeGreaterThan(0)
})

test('the processor is listed with its memory and the runtime that uses it', async () => {
  const processor = (await listDevices(onProcessor)).find(({ kind }) => kind === 'cpu')
  expect(processor).toMatchObject({ id: 'cpu', totalBytes: totalmem(), usedBy: onProcessor.title, why: onProcessor.reason })
})

test.skipIf(process.platform === 'win32')('NVIDIA GPUs are listed with their driver, and why they are used or not', async () => {
  const program = join(folder, 'nvidia-smi')
  writeFileSync(program, "#!/bin/sh\necho '0, GPU-aa, RTX 9000, 999.1, 20000, 24000'\necho '1, GPU-bb, GB10, 999.1, [N/A], [N/A]'\n")
  chmodSync(program, 0o755)
  vi.stubEnv('PATH', `${folder}${delimiter}${process.env.PATH}`)
  const gpus = async (backend: Parameters<typeof listDevices>[0]) => (await listDevices(backend)).filter(({ id }) => id.startsWith('cuda'))
  expect(await gpus(onProcessor)).toMatchObject([
    { id: 'cuda 0', title: 'RTX 9000', driver: 'NVIDIA 999.1', memoryBytes: 20000 * 2 ** 20, totalBytes: 24000 * 2 ** 20, usedBy: null },
    { id: 'cuda 1', title: 'GB10', memoryBytes: null, totalBytes: null },
  ])
  const onGpu = { name: 'tensorflow-gpu', title: 'TensorFlow on the GPU', reason: 'An NVIDIA GPU answered.' } as const
  expect(await gpus(onGpu)).toMatchObject([{ usedBy: onGpu.title, why: onGpu.reason }, { usedBy: onGpu.title }])
  vi.stubEnv('CUDA_VISIBLE_DEVICES', '0')
  expect(await gpus(onGpu)).toMatchObject([{ usedBy: onGpu.title }, { usedBy: null, why: 'CUDA_VISIBLE_DEVICES leaves this GPU out.' }])
  vi.stubEnv('CUDA_VISIBLE_DEVICES', 'MIG-aa')
  expect(await gpus(onGpu)).toMatchObject([{ usedBy: onGpu.title }, { usedBy: onGpu.title }])
})
