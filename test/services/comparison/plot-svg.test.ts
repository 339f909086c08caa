import { expect, test } from 'vitest'
import { renderSvg } from '#services/comparison/plot-svg.ts'

test('a plot draws nothing that is not finite and escapes its words', async () => {
  const svg = await renderSvg({
    title: 'a < b & c',
    x: { label: 'x', scale: 'log' },
    y: { label: 'y', scale: 'log' },
    series: [
      {
        name: '"one"',
        points: [
          { x: 1, y: 10 },
          { x: 2, y: Number.POSITIVE_INFINITY },
          { x: 100, y: 1000, spread: 5 },
        ],
      },
      { name: 'empty', points: [] },
    ],
  })
  expect(svg).toContain('<title>a &lt; b &amp; c</title>')
  // A ground would be a box on any page of another colour.
  expect(svg).not.toContain('<rect')
  expect(svg).toContain('&quot;one&quot;')
  expect(svg.match(/<circle/g)).toHaveLength(2)
  expect(svg).not.toMatch(/NaN|Infinity/)
})

const plotOf = (scale: 'linear' | 'log', points: { x: number; y: number }[]) => ({
  title: 't',
  x: { label: 'x', scale: 'linear' as const },
  y: { label: 'y', scale },
  series: [{ name: 's', points }],
})

const labels = (svg: string) => [...svg.matchAll(/text-anchor="(?:middle|end)">([^<]*)</g)].map(([, label]) => label)

test('ticks have round labels on linear and log scales, and a single point has room around it', async () => {
  expect(
    labels(
      await renderSvg(
        plotOf('linear', [
          { x: 0, y: 0 },
          { x: 1, y: 50 },
        ]),
      ),
    ),
  ).toEqual(expect.arrayContaining(['0', '20', '40', '0.2', '0.8']))
  const log = labels(
    await renderSvg(
      plotOf('log', [
        { x: 0, y: 8 },
        { x: 1, y: 5000 },
      ]),
    ),
  )
  expect(log).toEqual(expect.arrayContaining(['10', '100', '1,000']))
  const narrow = labels(
    await renderSvg(
      plotOf('log', [
        { x: 0, y: 895 },
        { x: 1, y: 931 },
      ]),
    ),
  )
  expect(narrow).toEqual(expect.arrayContaining(['900', '920']))
  const svg = await renderSvg(plotOf('log', [{ x: 3, y: 7 }]))
  expect(svg).not.toMatch(/NaN|Infinity/)
  expect(svg).toMatch(/<circle cx="316" cy="2\d\d/)
})

test('a series of squares has them at its points and in the legend', async () => {
  const plot = plotOf('linear', [{ x: 1, y: 2 }])
  const svg = await renderSvg({
    ...plot,
    series: [{ ...plot.series[0], name: 's', points: plot.series[0]?.points ?? [], marker: 'square' }],
  })
  expect(svg.match(/<rect[^>]*width="8"/g)).toHaveLength(2)
  expect(svg).not.toContain('<circle')
})
