import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { confine, defaultDataFolder, safeFileName } from '#services/models/folders.ts'
import { distinctName } from '#services/models/library.ts'
import { checkpointAt } from '#services/models/library-files.ts'

let folder: string

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'espalier-test-')))
  mkdirSync(join(folder, 'exports'))
  mkdirSync(join(folder, 'private'))
})

afterEach(() => rmSync(folder, { recursive: true }))

test('a path inside is taken, relative ones from the first folder', () => {
  const allowed = [join(folder, 'exports')]
  expect(confine(join(folder, 'exports', 'a', 'b'), allowed)).toBe(join(folder, 'exports', 'a', 'b'))
  expect(confine('a', allowed)).toBe(join(folder, 'exports', 'a'))
})

test('a config, weights or their index mean the folder that they are in', () => {
  const model = join(folder, 'private')
  const [config, weights, index] = ['config.json', 'model.safetensors', 'model.safetensors.index.json'].map((name) => join(model, name))
  for (const file of [config, weights, index]) writeFileSync(file as string, '{}')
  for (const path of [model, config, weights, index]) expect(checkpointAt(path as string)).toBe(model)
  rmSync(config as string)
  expect(checkpointAt(weights as string)).toBe(weights)
})

test('every way out is refused, links included', () => {
  const allowed = [join(folder, 'exports')]
  symlinkSync(join(folder, 'private'), join(folder, 'exports', 'link'))
  for (const path of [
    '..',
    '../private',
    '../exports2',
    '/etc/passwd',
    'a/../../private/x',
    'link',
    'link/deep/er',
    '.',
    '',
    'nul\0byte',
  ]) {
    expect(() => confine(path, allowed), JSON.stringify(path)).toThrow(/outside/)
  }
})

test('any name becomes one that every system accepts', () => {
  expect(['Ähnlich & gut', '../../etc', 'CON', '...', 'a/b\\c:d', '日本'].map(safeFileName)).toEqual([
    'Ahnlich-gut',
    'etc',
    'espalier-CON',
    'espalier-',
    'a-b-c-d',
    '日本',
  ])
  expect(safeFileName('x'.repeat(500)).length).toBe(80)
})

test('the data folder is the requested one, otherwise the usual place of the platform', () => {
  expect(defaultDataFolder({ ESPALIER_HOME: '/data/here' }, 'linux')).toBe('/data/here')
  expect(defaultDataFolder({ XDG_DATA_HOME: '/share' }, 'linux')).toBe('/share/espalier')
  expect(defaultDataFolder({}, 'darwin')).toMatch(/Application Support\/espalier$/)
})

test('a name that another model has gets as many folders of the path before it as tell it apart', () => {
  const named = (path: string, ...taken: string[]) => distinctName('tiny', path, new Set(taken))
  expect(named('/a/b/tiny')).toBe('tiny')
  expect(named('/a/b/tiny', 'tiny')).toBe('b/tiny')
  expect(named('/a/b/tiny', 'tiny', 'b/tiny')).toBe('a/b/tiny')
  expect(named('/tiny', 'tiny')).toBe('tiny, 2')
  expect(named('/tiny', 'tiny', 'tiny, 2')).toBe('tiny, 3')
})
