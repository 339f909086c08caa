import { at } from '#contract/at.ts'
import type { Axis, Plot, Series } from '#contract/comparison/plot.ts'
import { barEnds } from '#contract/comparison/seeds.ts'
import { seriesColours } from '#contract/comparison/series.ts'
import { wrapWords } from '#contract/words.ts'

type Scales = Pick<typeof import('d3-scale'), 'scaleLinear' | 'scaleLog'>

const frame = { width: 760, height: 460, left: 72, right: 200, top: 44, bottom: 56 }

/**
 * Draws a plot as an SVG document: axes with ticks, one line with circles or separate marks per series, and a legend with each name once. The ground is
 * transparent. * Skips values that are not finite. `colours` has a colour for each series; the default colours follow the order of the series.
 */
export async function renderSvg(plot: Plot, colours?: readonly string[]): Promise<string> {
  // Loaded on demand so that commands without plots start faster.
  const scales = await import('d3-scale')
  const series = plot.series.map((one) => ({ ...one, points: one.points.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y)) }))
  const points = series.flatMap((one) => one.points)
  const right = frame.width - frame.right
  const bottom = frame.height - frame.bottom
  const isLog = plot.y.scale === 'log'
  const spans = points.flatMap((point) => endsOf(point, isLog))
  const across = points.map((point) => point.x)
  const x = scaleOf(scales, plot.x, across, [frame.left, right])
  const y = scaleOf(scales, plot.y, spans, [bottom, frame.top])
  const middle = (frame.left + right) / 2
  const colour = (index: number) => colours?.[index] ?? colourOf(index, series.length)
  const named = series
    .map((one, index) => ({ one, index }))
    .filter(({ one, index }) => series.findIndex(({ name }) => name === one.name) === index)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${frame.width}" height="${frame.height}" viewBox="0 0 ${frame.width} ${frame.height}" font-family="system-ui, sans-serif" font-size="12" fill="#222">`,
    `<title>${escapeXml(plot.title)}</title>`,
    text(middle, 24, plot.title, 'text-anchor="middle" font-size="15" font-weight="600"'),
    ...x.ticks.flatMap(({ value, label }) => [
      line(x.at(value), frame.top, x.at(value), bottom, '#e4e4e4'),
      label && text(x.at(value), bottom + 18, label, 'text-anchor="middle"'),
    ]),
    ...y.ticks.flatMap(({ value, label }) => [
      line(frame.left, y.at(value), right, y.at(value), '#e4e4e4'),
      label && text(frame.left - 8, y.at(value) + 4, label, 'text-anchor="end"'),
    ]),
    line(frame.left, bottom, right, bottom, '#444'),
    line(frame.left, frame.top, frame.left, bottom, '#444'),
    text(middle, frame.height - 14, plot.x.label, 'text-anchor="middle"'),
    text(0, 0, plot.y.label, `text-anchor="middle" transform="translate(18 ${(frame.top + bottom) / 2}) rotate(-90)"`),
    ...series.map((one, index) => drawSeries(one, colour(index), { x: x.at, y: y.at, isLog })),
    ...named.map(({ one, index }, order) => drawLegend(one, colour(index), order, named.length)),
    '</svg>',
    '',
  ].join('\n')
}

interface Scale {
  readonly ticks: readonly { readonly value: number; readonly label: string }[]
  at(value: number): number
}

/** Returns a scale with a margin at both ends and about six ticks. A log scale puts values of 0 or less at its lower end. */
function scaleOf({ scaleLinear, scaleLog }: Scales, { scale }: Axis, values: readonly number[], range: [number, number]): Scale {
  const isLog = scale === 'log'
  const usable = isLog ? values.filter((value) => value > 0) : values
  const [minimum, maximum] = usable.length > 0 ? [Math.min(...usable), Math.max(...usable)] : [0.5, 1]
  const margin = isLog ? (maximum / minimum) ** 0.04 : (maximum - minimum) * 0.04
  const domain = isLog
    ? widen(minimum / margin, maximum * margin, minimum * 0.1)
    : widen(minimum - margin, maximum + margin, Math.abs(minimum) * 0.1 || 1)
  const axis = (isLog ? scaleLog() : scaleLinear()).domain(domain).range(range).clamp(isLog)
  // By default a log scale labels only round numbers, and a narrow range may contain none.
  const label = !isLog
    ? axis.tickFormat(6)
    : maximum < 3 * minimum
      ? (value: number) => value.toLocaleString('en')
      : axis.tickFormat(6, ',~r')
  const ticks = axis.ticks(6).map((value) => ({ value, label: label(value) }))
  return { at: (value) => axis(isLog ? Math.max(value, domain[0]) : value), ticks }
}

/** Returns both ends of a range. If they are equal, adds a margin around the single value. */
function widen(first: number, last: number, margin: number): [number, number] {
  return first === last ? [first - margin, last + margin] : [first, last]
}

/** Distinct hues for few series, a ramp from blue to red for many. */
function colourOf(index: number, count: number): string {
  return count <= seriesColours.length ? at(seriesColours, index).light : `hsl(${Math.round(230 + (130 * index) / (count - 1))} 65% 42%)`
}

interface Placing {
  x(value: number): number
  y(value: number): number
  isLog: boolean
}

/** The ends of a point's bar, or the point itself. */
function endsOf({ y, spread, factor = false }: Series['points'][number], log: boolean): number[] {
  return spread === undefined ? [y] : barEnds(y, spread, { factor, log })
}

function drawSeries({ points, marker }: Series, colour: string, { x, y, isLog }: Placing): string {
  const path = points.map((point, i) => `${i === 0 ? 'M' : 'L'}${round(x(point.x))} ${round(y(point.y))}`).join(' ')
  const bars = points
    .filter(({ spread }) => spread)
    .map((point) => {
      const [low = point.y, high = point.y] = endsOf(point, isLog)
      return line(x(point.x), y(low), x(point.x), y(high), colour)
    })
  const markers = points.map((point) => drawMark(x(point.x), y(point.y), colour, marker))
  const joined = marker ? '' : `<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.5"/>`
  return [joined, ...bars, ...markers].join('')
}

function drawMark(x: number, y: number, colour: string, marker: Series['marker'] = 'circle'): string {
  return marker === 'circle'
    ? `<circle cx="${round(x)}" cy="${round(y)}" r="3" fill="${colour}"/>`
    : `<rect x="${round(x - 4)}" y="${round(y - 4)}" width="8" height="8" fill="${colour}"/>`
}

function drawLegend({ name, marker }: Series, colour: string, index: number, count: number): string {
  const left = frame.width - frame.right + 16
  const step = Math.min(20, (frame.height - frame.top - 16) / Math.max(1, count))
  const at = frame.top + 8 + index * step
  const lines = wrapWords(name.split(' '), 26)
  return [
    marker ? drawMark(left + 9, at, colour, marker) : line(left, at, left + 18, at, colour, 2),
    ...lines.map((part, i) => text(left + 24, at + 4 + 14 * i, part, step < 14 ? 'font-size="10"' : '')),
  ].join('')
}

const round = (value: number): number => Math.round(value * 100) / 100

function line(x1: number, y1: number, x2: number, y2: number, colour: string, width = 1): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}" stroke-width="${width}"/>`
}

function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${round(x)}" y="${round(y)}"${attributes ? ` ${attributes}` : ''}>${escapeXml(content)}</text>`
}

const escapeXml = (text: string): string =>
  text.replace(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign] ?? sign)
