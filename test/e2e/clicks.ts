import { join } from 'node:path'
import type { Page } from 'playwright-core'
import type { FirstDay } from './first-day.ts'

/** Clicks since `count` was last set. */
export interface Clicks {
  count: number
}

/** Counts every press of the mouse, and every choice in a list as two. */
export async function countClicks({ screen: { page, context } }: FirstDay): Promise<Clicks> {
  const clicks = { count: 0 }
  await page.exposeFunction('countClick', () => (clicks.count += 1))
  await context.addInitScript(watchClicks)
  await page.evaluate(watchClicks)
  return clicks
}

function watchClicks(): void {
  const { countClick } = window as unknown as { countClick: () => void }
  // The driver keeps presses from the document that would miss what they aim at, and presses again.
  document.addEventListener('pointerdown', (event) => event.isTrusted && countClick(), true)
  const countChoice = ({ target }: Event) => {
    for (let press = 0; target instanceof HTMLSelectElement && press < 2; press += 1) countClick()
  }
  addEventListener('change', countChoice, true)
}

/** As with a mouse: a press into the field first. */
export async function typeInto(page: Page, name: string | RegExp, text: string): Promise<void> {
  const field = page.getByRole('textbox', { name })
  await field.click()
  await field.fill(text)
  await field.blur()
}

/** From any screen to New experiment with a model from disk, in four clicks. */
export async function pruneOwnModel({ screen: { page }, own }: FirstDay, clicks: Clicks, allSettings: 'yes' | 'no'): Promise<void> {
  await page.evaluate((unfolded) => localStorage.setItem('espalier all settings', unfolded), allSettings)
  await page.reload()
  clicks.count = 0
  await page.getByRole('navigation', { name: 'Screens' }).getByRole('link', { name: 'Models' }).click()
  await page.getByRole('button', { name: 'Add a model' }).click()
  await page.getByRole('dialog').waitFor()
  await page.keyboard.type(join(own.model, 'config.json'))
  await page.keyboard.press('Enter')
  await page.getByRole('link', { name: 'own-model' }).click()
  await page.getByRole('link', { name: 'Prune', exact: true }).click()
}
