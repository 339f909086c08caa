import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { findModels } from '#services/models/models.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const home = scratchFolder('found')
const digest = 'a'.repeat(64)

async function put(path: string, content = ''): Promise<void> {
  await mkdir(dirname(join(home, path)), { recursive: true })
  await writeFile(join(home, path), content)
}

beforeAll(async () => {
  await put('.cache/huggingface/hub/models--org--small/snapshots/c1/config.json', '{}')
  await put('.cache/huggingface/hub/models--org--small/snapshots/c1/model.safetensors')
  await put('.cache/huggingface/hub/models--org--half/snapshots/c1/config.json', '{}')
  await put('.lmstudio/models/maker/model-GGUF/model-Q4_K_M.gguf')
  await put('.lmstudio/models/maker/large-GGUF/large-00001-of-00002.gguf')
  await put('.lmstudio/models/maker/large-GGUF/large-00002-of-00002.gguf')
  const layers = [
    { mediaType: 'application/vnd.ollama.image.template', digest: `sha256:${'b'.repeat(64)}` },
    { mediaType: 'application/vnd.ollama.image.model', digest: `sha256:${digest}` },
  ]
  await put('.ollama/models/manifests/registry.example/library/tiny/latest', JSON.stringify({ layers }))
  await put('.ollama/models/manifests/registry.example/library/bad/latest', 'no json')
  await put(
    '.ollama/models/manifests/registry.example/library/out/latest',
    JSON.stringify({ layers: [{ ...layers[1], digest: 'sha256:../../etc' }] }),
  )
})

test('finds whole models of the hub cache, gguf files of LM Studio once each, and the blobs that Ollama names', async () => {
  const found = await findModels({ XDG_CACHE_HOME: join(home, '.cache') }, home)
  expect(found.map(({ program, name, path }) => [program, name, path.slice(home.length + 1)])).toEqual([
    ['Hugging Face cache', 'org/small', '.cache/huggingface/hub/models--org--small/snapshots/c1'],
    ['LM Studio', 'maker/large-00001-of-00002', '.lmstudio/models/maker/large-GGUF/large-00001-of-00002.gguf'],
    ['LM Studio', 'maker/model-Q4_K_M', '.lmstudio/models/maker/model-GGUF/model-Q4_K_M.gguf'],
    ['Ollama', 'tiny:latest', `.ollama/models/blobs/sha256-${digest}`],
  ])
})

test('finds nothing where no such program is', async () => {
  expect(await findModels({ XDG_CACHE_HOME: join(home, 'none') }, join(home, 'none'))).toEqual([])
})
