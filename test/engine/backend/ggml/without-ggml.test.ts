import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { EspalierError } from '#contract/errors.ts'
import { loadVulkan } from '#engine/backend/ggml/ggml-devices.ts'
import { missingRuntimes } from '#engine/backend/list-devices.ts'
import { blockTypeNamed, blockTypeOf, decodeBlocks } from '#engine/checkpoint/gguf/value-blocks.ts'
import { checkSave } from '#engine/export/check-save.ts'
import { sampleModelFolder } from '#runtime/resources.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

vi.mock('#engine/backend/ggml/ggml-devices.ts', async (original) => {
  const own = await original<{ loadVulkan: typeof loadVulkan }>()
  return { ...own, loadVulkan: vi.fn(own.loadVulkan) }
})

const empty = scratchFolder('no-ggml')
beforeAll(async () => {
  vi.stubEnv('ESPALIER_CACHE', empty)
})
afterAll(() => vi.unstubAllEnvs())

it('plain types can be saved, and quantised ones are refused before any work with what to do', async () => {
  const asked = { model: sampleModelFolder, plan: null, method: 'dense', formats: ['gguf', 'stock'], ggufTypes: ['F16', 'Q4_K_M', 'Q8_0'] }
  const problems = (await checkSave(asked)).map(({ type, format, problem }) => [type ?? format, problem])
  const missing = expect.stringMatching(/The ggml library.* is not installed\. Run `npm start` or `npm run demo` once/)
  expect(problems).toEqual([
    ['F16', null],
    ['Q4_K_M', missing],
    ['Q8_0', missing],
    ['stock', null],
  ])
})

it('plain types can be read, and quantised ones say what to do', () => {
  expect(blockTypeOf(1)).toMatchObject({ name: 'F16' })
  expect(decodeBlocks(new Uint8Array(Float32Array.of(1, 2).buffer), blockTypeNamed('F32'))).toEqual(Float32Array.of(1, 2))
  for (const ask of [() => blockTypeOf(12), () => blockTypeNamed('Q4_K')])
    expect(ask).toThrow(/quantised GGUF types, is not installed\. Run `npm start` or `npm run demo` once/)
})

it('without a GPU for ggml the report says why, and what to do', () => {
  expect(missingRuntimes({ name: 'tensorflow-cpu' })).toEqual([
    {
      name: 'ggml-gpu',
      available: false,
      why: 'ggml finds no GPU. The ggml library is not installed. Run `npm start` once with a network.',
    },
  ])
  expect(missingRuntimes({ name: 'tensorflow-gpu' })).toEqual([])
})

it('a library that cannot be opened is a reason, too, and does not hide the devices', () => {
  vi.mocked(loadVulkan).mockImplementationOnce(() => {
    throw new EspalierError('not-found', 'The library is damaged.')
  })
  expect(missingRuntimes({ name: 'tensorflow-cpu' })).toMatchObject([{ why: 'ggml finds no GPU. The library is damaged.' }])
})

it('Vulkan that was turned off says so', async () => {
  vi.stubEnv('ESPALIER_VULKAN', '0')
  vi.resetModules()
  vi.doUnmock('#engine/backend/ggml/ggml-devices.ts')
  vi.doMock('#runtime/ggml.mjs', async (original) => ({
    ...(await original<object>()),
    findGgml: (part?: string) => (part ? undefined : empty),
  }))
  const { loadVulkan: load } = await import('#engine/backend/ggml/ggml-devices.ts')
  expect(load()).toMatch(/ESPALIER_VULKAN=0 turns Vulkan off/)
})
