import { expect, test } from 'vitest'
import { seriesColours, seriesLook } from '#contract/comparison/series.ts'
import { methodTitles } from '#contract/titles.ts'

test('every method has a colour', () => {
  expect(Object.keys(methodTitles).map((method) => seriesLook(method).colour)).not.toContain(null)
})

test('a removed method and those behind it keep their colours', () => {
  expect(['2ssp', '2ssp_fit', 'shortgpt'].map((method) => seriesLook(method).colour)).toEqual([0, 1, 2])
})

test('a method beyond the colours has the first one again, but another shape', () => {
  const many = Array.from({ length: seriesColours.length + 1 }, (_, at) => `method ${at}`)
  const [first, last] = [seriesLook('method 0', many), seriesLook(`method ${seriesColours.length}`, many)]
  expect(last.colour).toBe(first.colour)
  expect(last.shape).not.toBe(first.shape)
})

test('the dense model is drawn in ink', () => {
  expect(seriesLook('dense').colour).toBeNull()
})

test('no method has the shape of a treatment, and no two have the same mark', () => {
  const many = Array.from({ length: 30 }, (_, at) => `method ${at}`)
  const looks = many.map((method) => seriesLook(method, many))
  expect([...new Set(looks.map(({ shape }) => shape))].sort()).toEqual(['circle', 'diamond', 'square', 'triangle'])
  expect(new Set(looks.map(({ colour, shape }) => `${colour} ${shape}`)).size).toBe(many.length)
})
