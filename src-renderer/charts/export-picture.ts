import type { MarkShape } from '#contract/comparison/series.ts'
import { upperFirst, wrapWords } from '#contract/words.ts'
import { saveBlob, toFileName } from '../lib/save-file.ts'
import { markPath } from './scatter.ts'

/** An entry of a legend: what a colour and a mark mean. */
export interface LegendEntry {
  /** Identifies the series; the title by default. */
  id?: string
  title: string
  color: string
  shape: MarkShape
}

export const legendId = ({ id, title }: LegendEntry): string => id ?? title

const drawnProperties = [
  'fill',
  'fill-opacity',
  'stroke',
  'stroke-width',
  'stroke-dasharray',
  'stroke-linecap',
  'stroke-linejoin',
  'paint-order',
  'opacity',
  'font-family',
  'font-size',
  'font-weight',
  'text-anchor',
  'visibility',
] as const

const namespace = 'http://www.w3.org/2000/svg'
const margin = 16
const titleHeight = 30
const legendRow = 20
const captionRow = 15

/** A chart to save: its picture, with what is said above and below it. */
export interface Drawing {
  picture: SVGSVGElement
  title: string
  note: string
  legend: readonly LegendEntry[]
}

/**
 * Makes a self-contained picture with title, legend and caption, in the colours of the light theme and without a ground, for any page. Every
 * style is an attribute.
 */
function standaloneSvg(drawing: Drawing): SVGSVGElement {
  // A copy beside the picture has its styles, but no colour of the dark theme on its way to another.
  const holder = document.createElement('div')
  Object.assign(holder.style, { position: 'absolute', colorScheme: 'light', color: 'var(--ink)' })
  const picture = drawing.picture.cloneNode(true) as SVGSVGElement
  holder.append(picture)
  drawing.picture.parentElement?.append(holder)
  try {
    return drawStandalone({ ...drawing, picture }, holder)
  } finally {
    holder.remove()
  }
}

function drawStandalone({ picture, title, note, legend }: Drawing, holder: HTMLElement): SVGSVGElement {
  const { width, height } = picture.viewBox.baseVal
  const rows = legendRows(legend, width)
  const caption = note === '' ? [] : wrapWords(note.split(' '), Math.floor(width / 6.2))
  const legendEnd = height + titleHeight + rows.length * legendRow + (rows.length > 0 ? 6 : 0)
  const size = { width: width + 2 * margin, height: legendEnd + caption.length * captionRow + margin }
  const style = getComputedStyle(holder)
  const text = { 'font-family': style.fontFamily, fill: style.color }
  const whole = element('svg', { viewBox: `0 0 ${size.width} ${size.height}`, width: size.width, height: size.height })
  const name = element('title', {})
  name.textContent = upperFirst(title)
  const head = element('text', { ...text, x: margin, y: 22, 'font-size': 14, 'font-weight': 600 })
  head.textContent = upperFirst(title)
  const drawn = element('g', { transform: `translate(${margin} ${titleHeight})` })
  drawn.append(...drawnCopy(picture).childNodes)
  const lines = caption.map((line, at) => {
    const own = element('text', { ...text, x: margin, y: legendEnd + 14 + at * captionRow, 'font-size': 11 })
    own.textContent = line
    return own
  })
  whole.append(
    name,
    head,
    drawn,
    ...rows.flatMap((row, at) => legendMarks(row, titleHeight + height + 18 + at * legendRow, text, holder)),
    ...lines,
  )
  return whole as SVGSVGElement
}

function drawnCopy(picture: SVGSVGElement): SVGSVGElement {
  const copy = picture.cloneNode(true) as SVGSVGElement
  inlineStyles(picture, copy)
  return copy
}

interface PlacedEntry extends LegendEntry {
  x: number
}

/** Places the legend in as many rows as it needs. */
function legendRows(legend: readonly LegendEntry[], width: number): PlacedEntry[][] {
  const context = document.createElement('canvas').getContext('2d')
  if (context) context.font = `12px ${getComputedStyle(document.documentElement).fontFamily}`
  const rows: PlacedEntry[][] = []
  let x = Number.POSITIVE_INFINITY
  for (const entry of legend) {
    const length = (context?.measureText(entry.title).width ?? entry.title.length * 7) + 34
    if (x + length > width) {
      rows.push([])
      x = 0
    }
    rows.at(-1)?.push({ ...entry, x })
    x += length
  }
  return rows
}

function legendMarks(row: readonly PlacedEntry[], y: number, text: Record<string, string>, holder: HTMLElement): Element[] {
  return row.flatMap(({ title, color, shape, x }) => {
    const label = element('text', { ...text, x: margin + x + 16, y: y + 4, 'font-size': 12 })
    label.textContent = title
    return [
      element('path', { d: markPath(shape, 70), fill: drawnColor(color, holder), transform: `translate(${margin + x + 6} ${y})` }),
      label,
    ]
  })
}

/** Resolves a colour of the theme, such as `var(--ink)`, to the value that is drawn. */
function drawnColor(color: string, holder: HTMLElement): string {
  const sample = document.createElement('span')
  sample.style.color = color
  holder.append(sample)
  const drawn = getComputedStyle(sample).color
  sample.remove()
  return drawn
}

function element(name: string, attributes: Record<string, string | number>): Element {
  const made = document.createElementNS(namespace, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value))
  return made
}

export function saveSvg(drawing: Drawing): void {
  saveBlob(toFileName(drawing.title, 'svg'), toBlob(standaloneSvg(drawing)))
}

/** Saves the picture as pixels on white, two for each pixel of its size. */
export async function savePng(drawing: Drawing): Promise<void> {
  const whole = standaloneSvg(drawing)
  const { width, height } = whole.viewBox.baseVal
  const image = new Image()
  image.src = URL.createObjectURL(toBlob(whole))
  await image.decode()
  const canvas = document.createElement('canvas')
  canvas.width = Math.round(width * 2)
  canvas.height = Math.round(height * 2)
  const context = canvas.getContext('2d')
  if (context) context.fillStyle = 'white'
  context?.fillRect(0, 0, canvas.width, canvas.height)
  context?.drawImage(image, 0, 0, canvas.width, canvas.height)
  URL.revokeObjectURL(image.src)
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, 'image/png'))
  if (!blob) throw new Error('The picture could not be drawn. Save it as SVG.')
  saveBlob(toFileName(drawing.title, 'png'), blob)
}

/** Saves the picture as vectors on a page of its size. The PDF's built-in font has no minus sign. The library is loaded on first use. */
export async function savePdf(drawing: Drawing): Promise<void> {
  const whole = standaloneSvg(drawing)
  const { width, height } = whole.viewBox.baseVal
  const [{ jsPDF }, { svg2pdf }] = await Promise.all([import('jspdf'), import('svg2pdf.js')])
  for (const text of whole.querySelectorAll('text')) text.textContent = (text.textContent ?? '').replaceAll('−', '-')
  const page = new jsPDF({ unit: 'pt', format: [width, height], orientation: width > height ? 'landscape' : 'portrait' })
  await svg2pdf(whole, page, { width, height })
  saveBlob(toFileName(drawing.title, 'pdf'), page.output('blob'))
}

function toBlob(picture: SVGSVGElement): Blob {
  return new Blob([new XMLSerializer().serializeToString(picture)], { type: 'image/svg+xml' })
}

function inlineStyles(from: Element, to: Element): void {
  const style = getComputedStyle(from)
  for (const property of drawnProperties) {
    const value = style.getPropertyValue(property)
    if (value) to.setAttribute(property, value)
  }
  for (const name of ['class', 'style', 'tabindex', 'role', 'data-block']) to.removeAttribute(name)
  for (const [at, child] of [...from.children].entries()) {
    const twin = to.children[at]
    if (twin) inlineStyles(child, twin)
  }
}
