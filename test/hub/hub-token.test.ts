import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { findToken } from '#hub/hub.ts'
import { findCacheFolder } from '#hub/hub-cache.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'

let folder: string
beforeEach(() => {
  folder = scratchOfTest('token')
})

test('the environment comes before our file, and our file before the Python library', async () => {
  const own = join(folder, 'own', 'token')
  writeFileSync(join(folder, 'token'), 'hf_python\n')
  expect(await findToken({ HF_HOME: folder }, own)).toBe('hf_python')
  mkdirSync(join(folder, 'own'))
  writeFileSync(own, ' hf_own\n', { mode: 0o600 })
  expect(await findToken({ HF_HOME: folder }, own)).toBe('hf_own')
  expect(await findToken({ HF_HOME: folder, HF_TOKEN: 'hf_environment' }, own)).toBe('hf_environment')
  expect(await findToken({ HF_HOME: join(folder, 'empty') }, undefined)).toBeUndefined()
})

test('our token file is for its owner only, and a looser one is refused with the command that fixes it', async () => {
  const own = join(folder, 'token')
  writeFileSync(own, 'hf_own', { mode: 0o600 })
  expect(await findToken({ HF_HOME: join(folder, 'empty') }, own)).toBe('hf_own')
  chmodSync(own, 0o644)
  await expect(findToken({ HF_HOME: join(folder, 'empty') }, own)).rejects.toThrow(/chmod 600/)
})

test('a token that cannot be a header value is no token', async () => {
  mkdirSync(join(folder, 'home'))
  writeFileSync(join(folder, 'home', 'token'), 'two\nlines')
  expect(await findToken({ HF_HOME: join(folder, 'home') }, undefined)).toBeUndefined()
})

test('the cache is where the Python library keeps it', () => {
  expect(findCacheFolder({ HF_HUB_CACHE: '/a', HF_HOME: '/b' })).toBe('/a')
  expect(findCacheFolder({ HF_HOME: '/b' })).toBe(join('/b', 'hub'))
  expect(findCacheFolder({ XDG_CACHE_HOME: '/c' })).toBe(join('/c', 'huggingface', 'hub'))
  expect(findCacheFolder({})).toMatch(/\.cache.huggingface.hub$/)
})
