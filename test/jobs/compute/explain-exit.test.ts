import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { EspalierError } from '#contract/errors.ts'
import { adviceFor, explainDeadline, explainError, explainExit, isOfProcess } from '#jobs/compute/explain-exit.ts'

const exit = { code: null, signal: 'SIGKILL' as const, output: '', memoryBytes: 1e9, totalBytes: 16e9 }

test('a killed process that held most of the memory ran out of it, a small one was killed by someone', () => {
  expect(explainExit({ ...exit, memoryBytes: 15e9 }).code).toBe('out-of-memory')
  expect(explainExit(exit)).toMatchObject({ code: 'internal', message: 'The compute process ended unexpectedly, by SIGKILL.' })
  expect(isOfProcess(explainExit(exit))).toBe(true)
})

test.each([
  'terminate called after throwing std::bad_alloc',
  'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory',
  'RESOURCE_EXHAUSTED: OOM when allocating tensor with shape[4096,11008]',
  'CUDA_ERROR_OUT_OF_MEMORY: out of memory',
])('"%s" means that memory ran out', (text) => {
  expect(explainExit({ ...exit, signal: 'SIGABRT', output: text }).code).toBe('out-of-memory')
  expect(explainError({ code: 'internal', message: text }).code).toBe('out-of-memory')
})

test.each([
  'ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 123\nggml_gallocr_reserve_n: no buffer',
  'ggml_vulkan: Device memory allocation of size 123 failed.\nggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory',
])('a check of ggml that fails after an allocation failed means that memory ran out: %s', (failure) => {
  const check = '/src/ggml-backend.cpp:1896: GGML_ASSERT(buffer) failed'
  expect(explainExit({ ...exit, signal: 'SIGABRT', output: `${failure}\n${check}\n` }).code).toBe('out-of-memory')
  const earlier = `${failure}\n${'a line of the next run\n'.repeat(5)}${check}\n`
  expect(explainExit({ ...exit, signal: 'SIGABRT', output: earlier })).toMatchObject({
    code: 'internal',
    message: expect.stringContaining('GGML_ASSERT'),
  })
})

test('a process that was killed at full memory ran out of it, whatever an earlier run printed', () => {
  const output = "'vk::DeviceLostError'\nggml.c:12: GGML_ASSERT(a) failed\n"
  expect(explainExit({ ...exit, output, memoryBytes: 15e9 }).code).toBe('out-of-memory')
})

test('an error that states its kind keeps it', () => {
  expect(explainError({ code: 'infeasible', message: 'out of memory is not meant here' }).code).toBe('infeasible')
})

test('the advice names a limit below what was tried', () => {
  expect(adviceFor(new EspalierError('out-of-memory', '', { memoryBytes: 12e9 }), undefined)).toContain('to 6.0 GB or less')
  expect(adviceFor(new EspalierError('out-of-memory', '', { memoryBytes: 12e9 }), 4e9)).toContain('to 2.0 GB or less')
  expect(adviceFor(new EspalierError('infeasible', ''), undefined)).toBeNull()
})

test('a process that ended itself because of a file says so, and only such a process', () => {
  const output = 'x\nespalier-limit: "a.json takes more than 3 seconds"\n'
  expect(explainExit({ ...exit, output })).toMatchObject({ code: 'invalid', message: 'a.json takes more than 3 seconds' })
  expect(isOfProcess(explainExit({ ...exit, output }))).toBe(false)
  expect(explainExit({ ...exit, signal: 'SIGABRT', output }).code).toBe('internal')
})

test('a question that took too long names a busy machine, and guesses nothing about an idle one', () => {
  expect(explainDeadline(60, 13.9, 2).message).toBe(
    'This took longer than 60 s and was stopped. The machine is busy: 13.9 processes are competing for 2 processors. Try again when it is less busy.',
  )
  expect(explainDeadline(60, 0.3, 2).message).toBe('This took longer than 60 s and was stopped. Try again.')
})

test('a failed check of ggml is named, and a lost GPU is recognised', () => {
  const script = `
    import { GgmlDevice } from '#engine/backend/ggml/device.ts'
    import { ggmlDevices } from '#engine/backend/ggml/ggml-devices.ts'
    const device = new GgmlDevice(ggmlDevices().find(({ isGpu }) => !isGpu).handle, 1)
    const { newTensor, reshape } = device.operations
    reshape(newTensor(0, 4, 1, 1, 1), 5, 1, 1, 1)`
  const { signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: join(import.meta.dirname, '..', '..', '..'),
    encoding: 'utf8',
  })
  expect(explainExit({ ...exit, signal, output: stderr })).toMatchObject({
    code: 'internal',
    message: expect.stringMatching(
      /^ggml ended the compute process because one of its checks failed \(ggml\.c:\d+: GGML_ASSERT\(.*\) failed\)\./,
    ),
    details: { ofProcess: true, signal: 'SIGABRT' },
  })
  const lost = "terminate called after throwing an instance of 'vk::DeviceLostError'"
  expect(explainExit({ ...exit, signal: 'SIGABRT', output: lost }).message).toMatch(/^The GPU was lost/)
})
