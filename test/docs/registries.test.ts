import { expect, test } from 'vitest'
import { howToRefresh, isFresh } from './generated.ts'
import { entriesIn, registries, registryFiles } from './registries.ts'

// Does not import the engine, which fails to load while a registry names a missing file.
test.each(Object.values(registryFiles))('%s lists what the files of its folder register', (file) => {
  expect(isFresh(file, registries), howToRefresh(file)).toBe(true)
})

test('a name that is not written out is an error that says where', () => {
  const toy = "export const toy = defineMethod({\n  id: 'toy',\n  order: 11,\n  title: toyTitle,\n})\n"
  expect(() => entriesIn('toy.ts', toy)).toThrow('toy.ts: "toy" has no "title".')
  expect(() => entriesIn('toy.ts', toy.replace('defineMethod', 'make'))).toThrow('Begin an export with: export const name = defineMethod({')
  expect(entriesIn('toy.ts', toy.replace('toyTitle', "'Toy'"))).toEqual([
    { file: 'toy.ts', exported: 'toy', id: 'toy', title: 'Toy', order: 11 },
  ])
})
