import { cp, link, mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { partsOf } from '#engine/checkpoint/gguf/parts.ts'
import { tokenizerMetadata } from '#engine/export/gguf/tokenizer.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { scratchFolder } from '../fixtures/scratch.ts'

const sample = join(import.meta.dirname, '../../resources/sample-model')
const secret = 'a secret text'

const outside = scratchFolder('links')
let model: string

beforeAll(async () => {
  await writeFile(join(outside, 'secret'), secret)
})

beforeEach(async () => {
  model = await mkdtemp(join(outside, 'model-'))
  for (const name of (await readdir(sample)).filter((one) => one !== 'training')) await cp(join(sample, name), join(model, name))
})

const linkOut = async (name: string) => {
  await rm(join(model, name), { force: true })
  await symlink(join(outside, 'secret'), join(model, name))
}

const files = ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja', 'generation_config.json', 'added_tokens.json']

describe.skipIf(process.platform === 'win32')('a file of a model that is a link out of its folder', () => {
  test.each([
    ...files,
    'special_tokens_map.json',
    'config.json',
    'model.safetensors',
    'model.safetensors.index.json',
    'model-00002-of-00002.safetensors',
    'README.md',
    'LICENSE',
  ])('is refused by its name before anything is read: %s', async (name) => {
    await linkOut(name)
    const refusal = await describeModel(model).then(String, (thrown: Error) => thrown.message)
    expect(refusal).toContain(`${join(model, name)} is a link to`)
    expect(refusal).not.toContain(secret.slice(0, 10))
  })

  test.each(files.filter((name) => name !== 'added_tokens.json'))('is not read as part of a tokenizer: %s', async (name) => {
    await linkOut(name)
    await expect(openTokenizer(model)).rejects.toThrow(`${name} is a link to`)
  })

  test('is not read for a GGUF file', async () => {
    await linkOut('chat_template.jinja')
    await expect(tokenizerMetadata(model, { vocabulary: 4096, config: {} })).rejects.toThrow('chat_template.jinja is a link to')
  })

  test('is no part of a divided GGUF file', async () => {
    await writeFile(join(model, 'm-00001-of-00002.gguf'), 'GGUF')
    await linkOut('m-00002-of-00002.gguf')
    await expect(partsOf(join(model, 'm-00001-of-00002.gguf'))).rejects.toThrow('m-00002-of-00002.gguf is a link to')
  })
})

test.skipIf(process.platform === 'win32')('every file of a model may be a link into the blobs of its Hugging Face cache', async () => {
  const repository = join(model, 'models--org--sample')
  const snapshot = join(repository, 'snapshots', 'abc')
  await mkdir(join(repository, 'blobs'), { recursive: true })
  await mkdir(snapshot, { recursive: true })
  await writeFile(join(model, 'chat_template.jinja'), '{{ messages[0].content }}')
  for (const name of await readdir(model)) {
    if (name === 'models--org--sample') continue
    await rename(join(model, name), join(repository, 'blobs', `sha-${name}`))
    await symlink(join('..', '..', 'blobs', `sha-${name}`), join(snapshot, name))
  }
  expect((await describeModel(snapshot)).chatTemplate).toBe(true)
  expect((await tokenizerMetadata(snapshot, { vocabulary: 8192, config: {} })).get('tokenizer.chat_template')).toMatchObject({
    value: '{{ messages[0].content }}',
  })
})

test.skipIf(process.platform === 'win32')('links inside the folder, hard links and a link to a folder stay allowed', async () => {
  await rename(join(model, 'tokenizer.json'), join(model, 'kept.json'))
  await symlink('kept.json', join(model, 'tokenizer.json'))
  await link(join(outside, 'secret'), join(model, 'notes.txt'))
  await symlink(outside, join(model, 'logs'))
  expect((await describeModel(model)).family).toBe('llama')
})
