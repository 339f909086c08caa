import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launchBrowser } from './browser.ts'
import { eventually } from './eventually.ts'
import { openScreen } from './screens.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

let browser: Browser
let workbench: Workbench
let page: Page

beforeAll(async () => {
  ;[browser, workbench] = await Promise.all([launchBrowser(), startWorkbench()])
  page = (await openScreen(browser, workbench)).page
}, 120_000)

afterAll(async () => {
  await browser?.close()
  await workbench?.close()
})

/** Tabs until the focus is where it was looked for, as a person does; a trap or a lost focus ends it. */
async function tabTo(name: RegExp, most = 80): Promise<void> {
  const seen: string[] = []
  for (let step = 0; step < most; step += 1) {
    await page.keyboard.press('Tab')
    const focused = await page.evaluate(() => {
      const element = document.activeElement as HTMLElement | null
      const label = element?.id ? document.querySelector(`label[for="${element.id}"]`)?.textContent : element?.closest('label')?.textContent
      return element?.getAttribute('aria-label') ?? label ?? element?.textContent?.trim() ?? ''
    })
    seen.push(focused.slice(0, 40))
    if (name.test(focused)) return
  }
  throw new Error(`Tab never came to ${name}; it came to ${JSON.stringify(seen)}`)
}

test('the whole main path goes without a mouse: set up, run, watch, compare, talk', async () => {
  await page.getByRole('heading', { level: 1, name: 'Models' }).waitFor()
  await page.keyboard.press('g')
  await page.keyboard.press('n')
  await page.getByRole('button', { name: /Quick look/ }).waitFor()
  await tabTo(/^Quick look/)
  await page.keyboard.press('Enter')
  // Two runs are enough here: ShortGPT and the half are taken out, by the keyboard too.
  await tabTo(/ShortGPT/)
  await page.keyboard.press('Space')
  await tabTo(/Remove 50 %/)
  await page.keyboard.press('Enter')
  await tabTo(/Add a sparsity/)
  await eventually(
    () => page.getByRole('button', { name: 'Add to the queue' }).isDisabled(),
    (disabled) => !disabled,
    15_000,
  )
  await tabTo(/Add to the queue/)
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { level: 1, name: 'Quick look' }).waitFor()

  await eventually(
    async () => (await workbench.call('runs.query', {})).rows.map(({ status }) => status),
    (all) => all.length > 0 && all.every((status) => status === 'done'),
    420_000,
  )
  await page.keyboard.press('g')
  await page.keyboard.press('r')
  await page.locator('tr[data-row="1"]').waitFor()
  await page.locator('tr[data-row="0"]').focus()
  await page.keyboard.press('ArrowDown')
  await eventually(
    () => page.evaluate(() => document.activeElement?.getAttribute('data-row')),
    (row) => row === '1',
    3000,
  )
  await page.keyboard.press('Enter')
  await page.getByRole('listbox', { name: /Model map/ }).waitFor()
  await tabTo(/^Block \d+/)
  const first = await page.evaluate(() => document.activeElement?.getAttribute('data-block'))
  await page.keyboard.press('ArrowUp')
  expect(await page.evaluate(() => document.activeElement?.getAttribute('data-block'))).toBe(String(Number(first) + 1))

  await tabTo(/Compare it/)
  await page.keyboard.press('Enter')
  await page.getByRole('region', { name: 'Comparison table' }).waitFor()
  await tabTo(/Differences only/)
  await page.keyboard.press('Space')
  await eventually(
    () => page.url(),
    (url) => url.includes('only=differences'),
    3000,
  )

  await page.keyboard.press('Escape')
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur())
  await page.keyboard.press('g')
  await page.keyboard.press('p')
  await tabTo(/^Prompt$/)
  await page.keyboard.press('Control+A')
  await page.keyboard.type('What is a tree? ')
  await page.keyboard.press('Control+Enter')
  const answer = page.getByRole('group', { name: /^Answer of/ }).first()
  await eventually(
    () => answer.locator('[data-token]').count(),
    (count) => count > 3,
    60_000,
  )
  await tabTo(/^Answer of/)
  await page.keyboard.press('ArrowRight')
  await page.locator('.float').waitFor()
  await page.keyboard.press('Enter')
  await page.getByRole('dialog', { name: 'Alternatives of this token' }).waitFor()
  await page.keyboard.press('Escape')
  await eventually(
    () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? ''),
    (label) => label.startsWith('Answer of'),
    3000,
  )
}, 480_000)
