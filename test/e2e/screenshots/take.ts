import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { go, openScreen, settle, type Theme } from '../screens.ts'
import type { Workbench } from '../workbench.ts'
import { findCutLabels } from './cut-labels.ts'
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
