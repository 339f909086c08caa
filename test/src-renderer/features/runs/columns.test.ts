import { expect, test } from 'vitest'
import { briefName } from '../../../../src-renderer/features/runs/columns.ts'

test('a long name of a run keeps its end and says less of repair and recovery, a short one stays', () => {
  const names = ['', ', Q4_K_M'].map((type) => `Gates 25 %, repaired block by block, recovered with 100,000 tokens${type}`)
  expect(names.map(briefName)).toEqual(['Gates 25 %, repaired, recovered', 'Gates 25 %, repaired, recovered, Q4_K_M'])
  expect(briefName('Gates 25 %, recovered with 100,000 tokens, Q4_K_M')).toBe('Gates 25 %, recovered, Q4_K_M')
  for (const short of ['Gates 25 %, repaired block by block, Q4_K_M', 'My run, repaired in one pass']) expect(briefName(short)).toBe(short)
})
