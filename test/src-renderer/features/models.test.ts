import { expect, test } from 'vitest'
import type { Preset } from '#contract/experiments/experiments.ts'
import { choosePreset, parseHubName, replaceById } from '../../../src-renderer/features/models/models.ts'

test('hub names are read with a revision or from an address, and nothing else', () => {
  expect(parseHubName('owner/name')).toEqual({ name: 'owner/name' })
  expect(parseHubName('owner/name@refs/pr/1')).toEqual({ name: 'owner/name', revision: 'refs/pr/1' })
  expect(parseHubName('https://hub.example/owner/name/')).toEqual({ name: 'owner/name' })
  for (const text of ['', 'name', 'a/b/c', 'owner/na me']) expect(parseHubName(text), text).toBeNull()
})

test('the first start takes the quick look wherever it stands', () => {
  const preset = (id: string) => ({ id }) as Preset
  expect(choosePreset([preset('paper-table'), preset('quick-look')]).id).toBe('quick-look')
  expect(() => choosePreset([])).toThrow('no ready experiment')
})

test('an entry that changed keeps its place, a new one goes last', () => {
  expect(
    replaceById(
      [
        { id: 'a', n: 1 },
        { id: 'b', n: 1 },
      ],
      { id: 'a', n: 2 },
    ),
  ).toEqual([
    { id: 'a', n: 2 },
    { id: 'b', n: 1 },
  ])
  expect(replaceById([{ id: 'a' }], { id: 'c' })).toHaveLength(2)
})
