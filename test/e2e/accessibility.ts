import axe, { type AxeResults, type RunOptions } from 'axe-core'
import type { Page } from 'playwright-core'
import { finishAnimations, settle, type Theme } from './screens.ts'

/** Rules that look at colours, which are all that a theme changes. */
const colourRules = ['color-contrast', 'link-in-text-block']

/**
 * What axe finds on a settled screen, one line per rule with the places. The first theme is checked by all rules, the others only by
 * the rules about colours. A screen can change while axe looks, so faults count only when a second look finds them too.
 * `part` names what is looked at, where the rest of the screen was already.
 */
export async function findAccessibilityFaults(page: Page, themes: readonly Theme[] = [], part = 'html'): Promise<string[]> {
  const found = await checkThemes(page, themes, part)
  return found.length === 0 ? found : checkThemes(page, themes, part)
}

async function checkThemes(page: Page, themes: readonly Theme[], part: string): Promise<string[]> {
  await settle(page)
  if (themes.length === 0) return check(page, part)
  const found: string[] = []
  for (const [index, theme] of themes.entries()) {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' })
    await finishAnimations(page)
    found.push(...(await check(page, part, index > 0 ? colourRules : undefined)).map((fault) => `${theme} ${fault}`))
  }
  return found
}

async function check(page: Page, part: string, rules?: string[]): Promise<string[]> {
  const isLoaded = await page.evaluate(() => 'axe' in window)
  if (!isLoaded) await page.evaluate(axe.source)
  // Style sheets are preloaded for an experimental rule that is off.
  const options: RunOptions = { preload: false, resultTypes: ['violations'], ...(rules ? { runOnly: rules } : {}) }
  const { violations } = await page.evaluate(
    ({ part, options }) => (window as unknown as { axe: Pick<typeof axe, 'run'> }).axe.run(part, options),
    { part, options },
  )
  return violations.map(({ id, help, nodes }) => `${id} (${help}): ${nodes.slice(0, 3).map(describePlace).join(' | ')}`)
}

function describePlace({ html, failureSummary }: AxeResults['violations'][number]['nodes'][number]): string {
  return `${html.slice(0, 160)} ${failureSummary?.split('\n').slice(1, 3).join(' ')}`
}
