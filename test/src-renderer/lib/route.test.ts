import { expect, test } from 'vitest'
import { formatHash, parseHash } from '../../../src-renderer/lib/route.ts'

test('an address read and written again is the same', () => {
  const hash = '#/runs/a%20b?search=50+%25&where=%5B%5B%22method%22%5D%5D'
  const { path, query } = parseHash(hash)
  expect(path).toEqual(['runs', 'a b'])
  expect(query).toEqual({ search: '50 %', where: '[["method"]]' })
  expect(formatHash(path, query)).toBe(hash)
})

test('empty values are left out of the address', () => {
  expect(formatHash(['runs'], { search: '', sort: undefined, tab: 'log' })).toBe('#/runs?tab=log')
})

test('a broken address is read rather than refused', () => {
  expect(parseHash('#/run/%E0%A4%A')).toEqual({ path: ['run', '%E0%A4%A'], query: {} })
  expect(parseHash('')).toEqual({ path: [], query: {} })
})
