import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { go, openScreen, settle, type Theme } from '../screens.ts'
import type { Workbench } from '../workbench.ts'
import type { Subjects } from './history.ts'
import type { Picture } from './pictures.ts'

const widths = [1440, 1024, 800]

/** What pictures are taken of, where they go, and the labels found cut in them. */
export interface Shooting {
  browser: Browser
  workbench: Workbench
  folder: string
  cut: Set<string>
}

async function take(page: Page, picture: Picture, { folder, cut }: Shooting, subjects: Subjects, theme: Theme, width: number) {
  await page.setViewportSize({ width, height: picture.height ?? 900 })
  await go(page, picture.hash(subjects))
  await settle(page)
  await picture.prepare?.(page)
  await settle(page)
  const size = width === widths[0] ? '' : `-${width}`
  await page.screenshot({ path: join(folder, `${picture.name}-${theme}${size}.png`) })
  for (const label of await findCutLabels(page)) cut.add(`${picture.name} at ${width}: ${label}`)
  await page.keyboard.press('Escape')
}

/** Takes pictures in both themes at every width, and returns their number. */
export async function takeAll(shooting: Shooting, subjects: Subjects, pictures: Picture[]): Promise<number> {
  for (const theme of ['light', 'dark'] as const) {
    const { page, context } = await openScreen(shooting.browser, shooting.workbench, theme)
    for (const width of widths) for (const picture of pictures) await take(page, picture, shooting, subjects, theme, width)
    await context.close()
  }
  return pictures.length * 2 * widths.length
}

/** Labels whose text does not fit and is not shown in full in a title, and heads that break within a word. */
function findCutLabels(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const labels = [...document.querySelectorAll<HTMLElement>('main *, [role="dialog"] *, [role="menu"] *')]
    const hasText = (element: HTMLElement) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent?.trim())
    const isCut = (element: HTMLElement) => {
      const { overflowX, clip } = getComputedStyle(element)
      const hides = (overflowX === 'hidden' || overflowX === 'clip') && clip === 'auto'
      return (
        hides && element.clientWidth > 1 && element.scrollWidth > element.clientWidth + 1 && !element.closest('[title], .visually-hidden')
      )
    }
    const isBroken = (element: HTMLElement) =>
      [...element.childNodes].some((node) => {
        if (node.nodeType !== 3) return false
        return [...(node.textContent ?? '').matchAll(/[\p{L}\d]+/gu)].some(({ index, 0: word }) => {
          const range = document.createRange()
          range.setStart(node, index)
          range.setEnd(node, index + word.length)
          const tops = [...range.getClientRects()].map(({ top }) => Math.round(top))
          return Math.max(...tops) - Math.min(...tops) > 6
        })
      })
    const texts = labels.filter((element) => hasText(element) && element.getClientRects().length > 0)
    const cut = texts.filter((element) => element.tagName !== 'TEXTAREA' && isCut(element)).map((element) => `cut: ${element.textContent}`)
    const heads = texts.filter((element) => element.closest('th, dt, button, label, h1, h2, h3') && isBroken(element))
    return [...cut, ...heads.map((element) => `broken: ${element.textContent}`)].map((text) => text.replace(/\s+/g, ' ').slice(0, 70))
  })
}
