import { beforeEach, expect, test, vi } from 'vitest'
import { loadBackend, openBackend } from '#engine/backend/backend.ts'
import { findGpu } from '#engine/backend/ggml/open.ts'

vi.mock('#runtime/ggml.mjs', async (original) => ({ ...(await original<object>()), findGgml: () => 'installed' }))
vi.mock('#engine/backend/ggml/open.ts', async (original) => ({ ...(await original<object>()), findGpu: vi.fn() }))

const { name } = await openBackend('tensorflow')
beforeEach(() => void vi.mocked(findGpu).mockReset())

test.skipIf(name === 'tensorflow-gpu')(
  'a process of TensorFlow on the processor serves auto only where there is no GPU to compare',
  async () => {
    vi.mocked(findGpu).mockReturnValue({ isSimulated: false } as never)
    await expect(loadBackend('auto')).rejects.toMatchObject({ code: 'conflict', details: { anotherProcess: true } })
    await expect(loadBackend('tensorflow')).resolves.toMatchObject({ name })
    vi.mocked(findGpu).mockReturnValue({ isSimulated: true } as never)
    await expect(loadBackend('auto')).resolves.toMatchObject({ name })
  },
)
