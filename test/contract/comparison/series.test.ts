import { expect, test } from 'vitest'
import { seriesColours, seriesLook, seriesTitle, treatedLook, treatmentOf } from '#contract/comparison/series.ts'
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

test('what was repaired, recovered, or both has a title and a mark of its own', () => {
  const repair = { 'repair.kind': 'in-order' }
  const recovery = { 'recover.text.source': 'mixed' }
  const treatments = [{}, repair, recovery, { ...repair, ...recovery }].map((parameters) => treatmentOf({ parameters }))
  expect(treatments.map((treatment) => seriesTitle('gates', treatment))).toEqual([
    'Gates',
    'Gates, repaired block by block',
    'Gates, recovered',
    'Gates, repaired block by block, recovered',
  ])
  expect(new Set(treatments.map((treatment) => treatedLook(seriesLook('gates'), treatment).shape)).size).toBe(4)
})
