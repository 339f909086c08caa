import type { Browser, BrowserContext, Page, Route } from 'playwright-core'
import { patience } from '../patience.ts'
import type { Workbench } from './workbench.ts'

export type Theme = 'light' | 'dark'

/** A page of the workbench and everything that went wrong in it. */
export interface Screen {
  page: Page
  /** Reports of the content policy and of Trusted Types, and errors that nobody caught. */
  faults: string[]
  context: BrowserContext
}

/** Without motion unless asked for: what pulses while a run lasts is drawn again in every frame, by the processor here. */
export async function openScreen(
  browser: Browser,
  workbench: Workbench,
  theme: Theme = 'light',
  reducedMotion: 'reduce' | 'no-preference' = 'reduce',
): Promise<Screen> {
  const viewport = { width: 1440, height: 900 }
  const context = await browser.newContext({ viewport, colorScheme: theme, reducedMotion, acceptDownloads: true })
  context.setDefaultTimeout(30_000 * patience)
  const page = await context.newPage()
  const faults: string[] = []
  await watchScreen(page, faults)
  await page.goto(workbench.printed)
  await page.getByRole('navigation', { name: 'Screens' }).waitFor()
  return { page, faults, context }
}

/** As for a person who has unfolded all settings of New experiment before. */
export function showAllSettings(): void {
  try {
    localStorage.setItem('espalier all settings', localStorage.getItem('espalier all settings') ?? 'yes')
  } catch {
    // A page without an origin has no storage.
  }
}

/** From the next load on, adds to `faults` whatever goes wrong, and lets `settle` see what the page still waits for. */
export async function watchScreen(page: Page, faults: string[]): Promise<void> {
  await page.context().addInitScript(watchWork)
  await page.context().addInitScript(showAllSettings)
  await page.exposeFunction('reportViolation', (text: string) => faults.push(text))
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      const report = (window as unknown as { reportViolation: (text: string) => void }).reportViolation
      report(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`)
    })
  })
  page.on('pageerror', (error) => faults.push(`uncaught: ${error.message}`))
}

/** Opens a screen by its address, and returns when the page has begun to show it. */
export async function go(page: Page, hash: string): Promise<void> {
  await page.evaluate(
    (target) =>
      new Promise<void>((resolve) => {
        const before = location.hash
        addEventListener('hashchange', () => resolve(), { once: true })
        location.hash = target
        if (location.hash === before) resolve()
      }),
    hash,
  )
}

/**
 * Hands the calls of a page to `answer`, until that has had `times` of them or the function that comes back is called. The route stays:
 * a request that begins while the driver takes the last one away may never be sent.
 */
export async function intercept(
  page: Page,
  calls: string,
  answer: (route: Route) => Promise<void> | void,
  times = Number.POSITIVE_INFINITY,
): Promise<() => void> {
  let left = times
  await page.route(`**/api/${calls}`, (route) => {
    left -= 1
    return left >= 0 ? answer(route) : route.fallback()
  })
  return () => {
    left = 0
  }
}

/** Adds a filter to the history by its form. A screen that is still arriving takes the focus, which closes the form again. */
export async function addFilter(page: Page, column: string, comparison: string, value: string): Promise<void> {
  await settle(page)
  await page.getByRole('button', { name: 'Filter', exact: true }).click()
  await page.getByRole('combobox', { name: 'Column' }).selectOption({ label: column })
  await page.getByRole('combobox', { name: 'Comparison' }).selectOption(comparison)
  await page.getByLabel(/^Value/).fill(value)
  await page.getByRole('button', { name: 'Add filter' }).click()
}

/** Keeps a list, in the page, of what the page itself still waits for: its calls, and timers of up to a second. */
function watchWork(): void {
  const unfinished = new Set<unknown>()
  const { fetch, setTimeout, clearTimeout } = window
  Object.assign(window, { unfinished, pause: (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds)) })
  const track = async <Value>(work: Promise<Value>): Promise<Value> => {
    unfinished.add(work)
    return work.finally(() => unfinished.delete(work))
  }
  const { json } = Response.prototype
  Response.prototype.json = function () {
    return track(json.call(this))
  }
  Object.assign(window, {
    fetch: (...request: Parameters<typeof fetch>) => track(fetch(...request)),
    setTimeout(action: () => void, milliseconds = 0, ...values: []) {
      const timer = setTimeout(() => {
        unfinished.delete(timer)
        action(...values)
      }, milliseconds)
      if (milliseconds <= 1000) unfinished.add(timer)
      return timer
    },
    clearTimeout(timer: number) {
      unfinished.delete(timer)
      clearTimeout(timer)
    },
  })
}

/**
 * Waits until a screen has settled: no call is unanswered, nothing is busy, no short timer is pending, and what moves or fades has
 * arrived. A screen that shows a run in progress never rests: after five seconds without anything busy it counts as settled.
 */
export async function settle(page: Page): Promise<void> {
  await page.evaluate(async (longest) => {
    const { unfinished, pause } = window as unknown as { unfinished?: Set<unknown>; pause?: (milliseconds: number) => Promise<void> }
    const began = performance.now()
    for (let calmFrames = 0; calmFrames < 2; ) {
      await new Promise((resolve) => requestAnimationFrame(resolve))
      const isBusy = document.querySelector('[aria-busy="true"]') !== null
      const milliseconds = performance.now() - began
      if (isBusy && milliseconds > longest) throw new Error(`Still busy after ${milliseconds} ms.`)
      if (!isBusy && milliseconds > 5000) break
      calmFrames = isBusy || unfinished?.size ? 0 : calmFrames + 1
      // Each frame costs processor time that what is waited for needs.
      if (calmFrames === 0) await pause?.(40)
    }
  }, 60_000 * patience)
  await finishAnimations(page)
}

/** Waits until what moves or fades has arrived: colours on their way are neither those before nor those after. */
export async function finishAnimations(page: Page): Promise<void> {
  await page.evaluate(async () => {
    // What is not rendered, such as the inside of closed details, never gets to its end.
    const isMoving = ({ effect, playState }: Animation) =>
      playState === 'running' &&
      effect?.getComputedTiming().iterations !== Number.POSITIVE_INFINITY &&
      (effect as KeyframeEffect).target?.checkVisibility({ contentVisibilityAuto: true })
    const until = performance.now() + 5000
    // Two frames at least, as a change of styles starts its transitions in the first.
    for (let frame = 0; frame < 2 || (document.getAnimations().some(isMoving) && performance.now() < until); frame++)
      await new Promise((resolve) => requestAnimationFrame(resolve))
  })
}

/**
 * Watches the page, and returns a function that lists what moved so far: how much, and which elements. Notices may move: a new one lifts
 * the others.
 */
export async function watchShifts(page: Page): Promise<() => Promise<string[]>> {
  await page.evaluate(() => {
    const seen = window as unknown as { shifts: string[] }
    seen.shifts = []
    type Shift = PerformanceEntry & { value: number; hadRecentInput: boolean; sources: { node: Node | null; currentRect: DOMRect }[] }
    new PerformanceObserver((list) => {
      for (const { hadRecentInput, value, sources } of list.getEntries() as Shift[]) {
        const elementOf = (node: Node | null) => (node instanceof Element ? node : node?.parentElement)
        const inPage = sources.filter(({ node }) => !elementOf(node)?.closest('[aria-label="Notices"]'))
        const moved = inPage.map(({ node, currentRect: { y } }) => `"${node?.textContent?.trim().slice(0, 40)}" to ${Math.round(y)}`)
        if (!hadRecentInput && value >= 0.001 && (moved.length > 0 || sources.length === 0))
          seen.shifts.push(`${value.toFixed(3)}: ${moved.join(', ')}`)
      }
    }).observe({ type: 'layout-shift' })
  })
  return () => page.evaluate(() => (window as unknown as { shifts: string[] }).shifts)
}
