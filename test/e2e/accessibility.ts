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
  // Style sheets are preloaded for an experimental rule that is off. Faults are described by their HTML, so no selectors are sought.
  const options: RunOptions = { preload: false, selectors: false, resultTypes: ['violations'], ...(rules ? { runOnly: rules } : {}) }
  const { violations } = await page.evaluate(
    ({ part, options }) => (window as unknown as { axe: Pick<typeof axe, 'run'> }).axe.run(part, options),
    { part, options },
  )
  return violations.map(({ id, help, nodes }) => `${id} (${help}): ${nodes.slice(0, 3).map(describePlace).join(' | ')}`)
}

function describePlace({ html, failureSummary }: AxeResults['violations'][number]['nodes'][number]): string {
  return `${html.slice(0, 160)} ${failureSummary?.split('\n').slice(1, 3).join(' ')}`
}

/** `1 runs`; a verb may follow a number, and `Stage 1` is a name. */
const wrongCount = /(?<![\w.,×-]|Stage )1 (?!(?:is|was|has|does|needs|takes|less|across|times)\b)(?:[a-z]+ )?[a-z]+[^s\W]s\b/

/**
 * What is wrong in the small print of a screen, one line each: sentences in faint text of 12 pixels, fields without an edge, and counts
 * of one that are followed by a plural, seen or read aloud.
 */
export async function findSmallPrint(page: Page): Promise<string[]> {
  await settle(page)
  const seen = (await page.locator('body').allInnerTexts()).flatMap((text) => text.split('\n'))
  const { labels, faults } = await page.evaluate(() => {
    const probe = document.body.appendChild(document.createElement('i'))
    probe.style.color = 'var(--ink-faint)'
    const faint = getComputedStyle(probe).color
    probe.remove()
    const faults: string[] = []
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    while (texts.nextNode()) {
      const [text, place] = [texts.currentNode.nodeValue?.trim() ?? '', texts.currentNode.parentElement]
      if (!place?.checkVisibility() || !/^\S+( \S+){3,}[.:]/.test(text)) continue
      const { color, fontSize } = getComputedStyle(place)
      if (color === faint && Number.parseFloat(fontSize) <= 12) faults.push(`too faint to read: ${text}`)
    }
    const fields = 'input:not([type=checkbox], [type=radio], [type=range], [type=file]), select, textarea'
    for (const field of document.querySelectorAll(fields)) {
      const { borderTopColor: colour, borderTopStyle: style, borderTopWidth: width } = getComputedStyle(field)
      const isBare = style === 'none' || width === '0px' || /^(rgba\(.*, 0\)|transparent)$/.test(colour)
      if (field.checkVisibility() && isBare) faults.push(`no edge: ${field.ariaLabel ?? field.outerHTML.slice(0, 80)}`)
    }
    const labelled = [...document.querySelectorAll('[aria-label], [title]')]
    return { faults, labels: labelled.flatMap((one) => [one.ariaLabel ?? '', one.getAttribute('title') ?? '']) }
  })
  return [...faults, ...[...seen, ...labels].filter((text) => wrongCount.test(text)).map((text) => `wrong count: ${text}`)]
}
