import { AxeBuilder } from '@axe-core/playwright'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import type { Workbench } from './workbench.ts'

export type Theme = 'light' | 'dark'

/** A page of the workbench and everything that went wrong in it. */
export interface Screen {
  page: Page
  /** Reports of the content policy and of Trusted Types, and errors that nobody caught. */
  faults: string[]
  context: BrowserContext
}

export async function openScreen(browser: Browser, workbench: Workbench, theme: Theme = 'light'): Promise<Screen> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: theme, acceptDownloads: true })
  const page = await context.newPage()
  const faults: string[] = []
  await page.exposeFunction('reportViolation', (text: string) => faults.push(text))
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      const report = (window as unknown as { reportViolation: (text: string) => void }).reportViolation
      report(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`)
    })
  })
  page.on('pageerror', (error) => faults.push(`uncaught: ${error.message}`))
  await page.goto(workbench.printed)
  await page.getByRole('navigation', { name: 'Screens' }).waitFor()
  return { page, faults, context }
}

export async function go(page: Page, hash: string): Promise<void> {
  await page.evaluate((target) => {
    location.hash = target
  }, hash)
}

/**
 * Waits until a screen stands still: nothing on it is being worked out, nothing has changed for a moment (at most 5 seconds: progress
 * never rests), and what moves or fades has arrived. Colours on their way are neither those before nor those after.
 */
export async function settle(page: Page): Promise<void> {
  await eventually(
    () => page.locator('[aria-busy="true"]').count(),
    (busy) => busy === 0,
    60_000,
  )
  await page.evaluate(async () => {
    await new Promise<void>((resolve) => {
      const stop = () => {
        observer.disconnect()
        resolve()
      }
      let timer = setTimeout(stop, 250)
      const observer = new MutationObserver(() => {
        clearTimeout(timer)
        timer = setTimeout(stop, 250)
      })
      observer.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true })
      setTimeout(stop, 5000)
    })
    const ends = document.getAnimations().filter(({ effect }) => effect?.getComputedTiming().iterations !== Number.POSITIVE_INFINITY)
    await Promise.allSettled(ends.map(({ finished }) => finished))
  })
}

/**
 * What axe finds on a screen that stands still, one line a rule, with the places: by all rules or by those that are named. Where it finds
 * something it looks once more, as a screen may begin to change while it looks: what is wrong is found again.
 */
export async function findAccessibilityFaults(page: Page, rules?: string[]): Promise<string[]> {
  const found = await lookForFaults(page, rules)
  return found.length === 0 ? found : lookForFaults(page, rules)
}

async function lookForFaults(page: Page, rules: string[] | undefined): Promise<string[]> {
  await settle(page)
  const axe = new AxeBuilder({ page })
  const { violations } = await (rules ? axe.withRules(rules) : axe).analyze()
  return violations.map(
    ({ id, help, nodes }) =>
      `${id} (${help}): ${nodes
        .slice(0, 3)
        .map(({ html, failureSummary }) => `${html.slice(0, 160)} ${failureSummary?.split('\n').slice(1, 3).join(' ')}`)
        .join(' | ')}`,
  )
}

/** Asks again and again until it holds; tells what it saw last when it never does. */
export async function eventually<Value>(
  ask: () => Promise<Value> | Value,
  holds: (value: Value) => boolean,
  milliseconds: number,
): Promise<Value> {
  const until = Date.now() + milliseconds
  for (;;) {
    const value = await ask()
    if (holds(value)) return value
    if (Date.now() > until) throw new Error(`Not so after ${milliseconds} ms; last seen: ${JSON.stringify(value)?.slice(0, 600)}`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

/** How much the layout moves by itself from now on, as browsers score it (0 is not at all). */
export async function watchShifts(page: Page): Promise<() => Promise<number>> {
  await page.evaluate(() => {
    const scores = window as unknown as { layoutShift: number }
    scores.layoutShift = 0
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as (PerformanceEntry & { value: number; hadRecentInput: boolean })[]) {
        if (!entry.hadRecentInput) scores.layoutShift += entry.value
      }
    }).observe({ type: 'layout-shift' })
  })
  return () => page.evaluate(() => (window as unknown as { layoutShift: number }).layoutShift)
}
