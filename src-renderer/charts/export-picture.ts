import { saveBlob, toFileName } from '../lib/save-file.ts'

const drawnProperties = [
  'fill',
  'fill-opacity',
  'stroke',
  'stroke-width',
  'stroke-dasharray',
  'stroke-linecap',
  'stroke-linejoin',
  'opacity',
  'font-family',
  'font-size',
  'font-weight',
  'text-anchor',
  'visibility',
] as const

const namespace = 'http://www.w3.org/2000/svg'

/** A picture that stands on its own: every style that draws written as an attribute, over the theme's paper. */
export function standaloneSvg(picture: SVGSVGElement): string {
  const copy = picture.cloneNode(true) as SVGSVGElement
  inlineStyles(picture, copy)
  const { width, height } = picture.viewBox.baseVal
  const paper = document.createElementNS(namespace, 'rect')
  paper.setAttribute('width', String(width))
  paper.setAttribute('height', String(height))
  paper.setAttribute('fill', getComputedStyle(document.documentElement).backgroundColor)
  copy.prepend(paper)
  copy.setAttribute('xmlns', namespace)
  return new XMLSerializer().serializeToString(copy)
}

export function saveSvg(picture: SVGSVGElement, title: string): void {
  saveBlob(toFileName(title, 'svg'), new Blob([standaloneSvg(picture)], { type: 'image/svg+xml' }))
}

/** The picture as pixels, twice as fine as the screen's. */
export async function savePng(picture: SVGSVGElement, title: string): Promise<void> {
  const { width, height } = picture.viewBox.baseVal
  const image = new Image()
  image.src = URL.createObjectURL(new Blob([standaloneSvg(picture)], { type: 'image/svg+xml' }))
  await image.decode()
  const canvas = document.createElement('canvas')
  canvas.width = Math.round(width * 2)
  canvas.height = Math.round(height * 2)
  canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height)
  URL.revokeObjectURL(image.src)
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, 'image/png'))
  if (!blob) throw new Error('The picture could not be drawn. Save it as SVG.')
  saveBlob(toFileName(title, 'png'), blob)
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
