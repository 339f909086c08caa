import type { Axis, Plot, Series } from '#contract/plot.ts'

const frame = { width: 760, height: 460, left: 72, right: 200, top: 44, bottom: 56 }

/** The plot as an SVG document: axes with ticks, one line with markers per series, a legend. Values that are not finite are left out. */
export function renderSvg(plot: Plot): string {
  const series = plot.series.map((one) => ({ ...one, points: one.points.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y)) }))
  const points = series.flatMap((one) => one.points)
  const right = frame.width - frame.right
  const bottom = frame.height - frame.bottom
  const x = scaleOf(
    plot.x,
    points.map((point) => point.x),
    frame.left,
    right,
  )
  const y = scaleOf(
    plot.y,
    points.flatMap(({ y: value, spread = 0 }) => [value - spread, value + spread]),
    bottom,
    frame.top,
  )
  const middle = (frame.left + right) / 2
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${frame.width}" height="${frame.height}" viewBox="0 0 ${frame.width} ${frame.height}" font-family="system-ui, sans-serif" font-size="12" fill="#222">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    text(middle, 24, plot.title, 'text-anchor="middle" font-size="15" font-weight="600"'),
    ...x.ticks.flatMap((tick) => [
      line(x.at(tick), frame.top, x.at(tick), bottom, '#e4e4e4'),
      text(x.at(tick), bottom + 18, tickText(tick), 'text-anchor="middle"'),
    ]),
    ...y.ticks.flatMap((tick) => [
      line(frame.left, y.at(tick), right, y.at(tick), '#e4e4e4'),
      text(frame.left - 8, y.at(tick) + 4, tickText(tick), 'text-anchor="end"'),
    ]),
    line(frame.left, bottom, right, bottom, '#444'),
    line(frame.left, frame.top, frame.left, bottom, '#444'),
    text(middle, frame.height - 14, plot.x.label, 'text-anchor="middle"'),
    text(0, 0, plot.y.label, `text-anchor="middle" transform="translate(18 ${(frame.top + bottom) / 2}) rotate(-90)"`),
    ...series.map((one, index) => drawSeries(one, colourOf(index, series.length), x.at, y.at)),
    ...series.map((one, index) => drawLegend(one.name, colourOf(index, series.length), index, series.length)),
    '</svg>',
    '',
  ].join('\n')
}

interface Scale {
  readonly ticks: readonly number[]
  at(value: number): number
}

function scaleOf({ scale }: Axis, values: readonly number[], start: number, end: number): Scale {
  const usable = scale === 'log' ? values.filter((value) => value > 0) : values
  const [least, most] = usable.length > 0 ? [Math.min(...usable), Math.max(...usable)] : [0.5, 1]
  const toLinear = (value: number) => (scale === 'log' ? Math.log(Math.max(value, least)) : value)
  const margin = (toLinear(most) - toLinear(least)) * 0.04 || Math.abs(toLinear(most)) * 0.1 || 1
  const [first, last] = [toLinear(least) - margin, toLinear(most) + margin]
  const at = (value: number) => start + ((toLinear(value) - first) / (last - first)) * (end - start)
  const ticks = scale === 'log' ? logTicks(Math.exp(first), Math.exp(last)) : linearTicks(first, last)
  return { at, ticks: ticks.filter((tick) => toLinear(tick) >= first && toLinear(tick) <= last && (scale === 'linear' || tick >= least)) }
}

/** About six round values between two numbers. */
function linearTicks(first: number, last: number): number[] {
  const rough = (last - first) / 6
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10)
  const from = Math.ceil(first / step)
  return Array.from({ length: Math.floor(last / step) - from + 1 }, (_, i) => Number(((from + i) * step).toPrecision(12)))
}

/** 1, 2 and 5 times powers of ten, or round values where fewer than three of them fit. */
function logTicks(first: number, last: number): number[] {
  const powers = Array.from(
    { length: Math.ceil(Math.log10(last)) - Math.floor(Math.log10(first)) + 1 },
    (_, i) => 10 ** (Math.floor(Math.log10(first)) + i),
  )
  const ticks = powers.flatMap((power) => [power, 2 * power, 5 * power]).filter((tick) => tick >= first && tick <= last)
  return ticks.length >= 3 ? ticks.map((tick) => Number(tick.toPrecision(12))) : linearTicks(first, last)
}

const tickText = (value: number): string => (Math.abs(value) >= 1e5 ? value.toExponential(0) : String(value))

/** Distinct hues for few series, a ramp from blue to red for many. */
function colourOf(index: number, count: number): string {
  const few = ['#1f5fa8', '#c1440e', '#2c7a4b', '#7a3e9d', '#8a6d00', '#006d77']
  return count <= few.length ? (few[index] ?? '#222') : `hsl(${Math.round(230 + (130 * index) / (count - 1))} 65% 42%)`
}

function drawSeries({ points }: Series, colour: string, x: (value: number) => number, y: (value: number) => number): string {
  const path = points.map((point, i) => `${i === 0 ? 'M' : 'L'}${round(x(point.x))} ${round(y(point.y))}`).join(' ')
  const bars = points
    .filter(({ spread }) => spread)
    .map(({ x: at, y: value, spread = 0 }) => line(x(at), y(value - spread), x(at), y(value + spread), colour))
  const markers = points.map((point) => `<circle cx="${round(x(point.x))}" cy="${round(y(point.y))}" r="3" fill="${colour}"/>`)
  return [`<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.5"/>`, ...bars, ...markers].join('')
}

function drawLegend(name: string, colour: string, index: number, count: number): string {
  const left = frame.width - frame.right + 16
  const step = Math.min(20, (frame.height - frame.top - 16) / Math.max(1, count))
  const at = frame.top + 8 + index * step
  const lines = wrap(name, 26)
  return [
    line(left, at, left + 18, at, colour, 2),
    ...lines.map((part, i) => text(left + 24, at + 4 + 14 * i, part, step < 14 ? 'font-size="10"' : '')),
  ].join('')
}

function wrap(name: string, width: number): string[] {
  const lines: string[] = ['']
  for (const word of name.split(' ')) {
    const last = lines.at(-1) ?? ''
    if (last && last.length + word.length >= width) lines.push(word)
    else lines[lines.length - 1] = last ? `${last} ${word}` : word
  }
  return lines
}

const round = (value: number): number => Math.round(value * 100) / 100

function line(x1: number, y1: number, x2: number, y2: number, colour: string, width = 1): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}" stroke-width="${width}"/>`
}

function text(x: number, y: number, content: string, attributes: string): string {
  const escaped = content.replace(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign] ?? sign)
  return `<text x="${round(x)}" y="${round(y)}"${attributes ? ` ${attributes}` : ''}>${escaped}</text>`
}
