/**
 * Times the screens in a real browser over the real server: `npm run bench -- screens [runs]`. Start to interactive (limit 1 s), frames
 * while 10,000 runs scroll (60 a second), comparing 200 runs (100 ms a change), and the size of the bundle (400 kB gzip).
 */
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { argv } from 'node:process'
import { gzipSync } from 'node:zlib'
import type { CDPSession, Page } from 'playwright-core'
import { openHistory } from '#db/history.ts'
import { launchBrowser } from '../e2e/browser.ts'
import { go, openScreen } from '../e2e/screens.ts'
import { startWorkbench } from '../e2e/workbench.ts'
import { eventually } from '../eventually.ts'
import { fillHistory } from '../fixtures/fill-history.ts'

const runs = Number(argv[2] ?? 10_000)
const limits = { bundleKilobytes: 400, interactive: 1000, frame: 1000 / 60, compare: 100 }
const missed: string[] = []

function report(name: string, value: number, limit: number, unit: string, note = ''): void {
  if (value > limit) missed.push(name)
  console.log(`${name.padEnd(44)} ${value.toFixed(1).padStart(8)} ${unit} (limit ${limit.toFixed(1)})${note && `, ${note}`}`)
}

/** Everything that the first visit fetches, compressed as the server sends it. */
async function measureBundle(): Promise<void> {
  const folder = join(import.meta.dirname, '../../out/renderer')
  const names = (await readdir(folder, { recursive: true })).filter((name) => /\.(js|css|html)$/.test(name))
  const sizes = await Promise.all(names.map(async (name) => gzipSync(await readFile(join(folder, name))).length))
  report('bundle, gzip', sizes.reduce((sum, size) => sum + size, 0) / 1000, limits.bundleKilobytes, 'kB')
}

/** Time from the address to a screen that lists runs. */
async function measureStart(page: Page, session: CDPSession, address: string, name: string): Promise<void> {
  await page.goto('about:blank')
  const before = await threadMilliseconds(session)
  const began = performance.now()
  await page.goto(`${address}#/runs`)
  await page.locator('tr[data-row="0"] a').waitFor()
  const wall = performance.now() - began
  report(
    `start to interactive, ${name}`,
    wall,
    limits.interactive,
    'ms',
    `the page computed ${((await threadMilliseconds(session)) - before).toFixed(0)} ms`,
  )
}

/** Scrolls through 600 rows in three seconds: the page's computing time for each frame, and the time between two. */
async function measureScrolling(page: Page, session: CDPSession): Promise<void> {
  const { computed, count, median } = await scrollThrough(page, session, '.scroller', 20_000)
  report(`scrolling ${runs} runs, computed a frame`, computed, limits.frame, 'ms', `${count} frames, median ${median.toFixed(1)} ms apart`)
}

/** Time from a click on a switch of the comparison to the frame that shows it. */
async function measureCompare(page: Page, session: CDPSession): Promise<void> {
  await page.getByText('Differences only').waitFor()
  await page.waitForTimeout(1500)
  const walls: number[] = []
  const computed: number[] = []
  for (let turn = 0; turn < 7; turn += 1) {
    const before = await threadMilliseconds(session)
    walls.push(
      await page.evaluate(async () => {
        const box = document.querySelector<HTMLInputElement>('[aria-label="Comparison table"] input[type="checkbox"]')
        const began = performance.now()
        box?.click()
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)))
        return performance.now() - began
      }),
    )
    computed.push((await threadMilliseconds(session)) - before)
  }
  const [wall, work] = [walls, computed].map((times) => times.slice(1).sort((a, b) => a - b)[3] ?? 0) as [number, number]
  report('comparing 200 runs, a switch computed in', work, limits.compare, 'ms', `its frame after ${wall.toFixed(0)} ms`)
}

const workbench = await startWorkbench({
  async prepare(folder) {
    await mkdir(folder, { recursive: true })
    const history = openHistory(folder)
    fillHistory(history, runs, 40)
    history.close()
  },
})
const browser = await launchBrowser()
try {
  await measureBundle()
  const { page, context } = await openScreen(browser, workbench, 'light', 'no-preference')
  const session = await context.newCDPSession(page)
  await session.send('Performance.enable', { timeDomain: 'threadTicks' })
  await measureStart(page, session, workbench.address, 'first')
  await measureStart(page, session, workbench.address, 'again')
  await measureScrolling(page, session)
  const { rows } = await workbench.call('runs.query', { limit: 200, conditions: [{ field: 'status', is: 'equal', value: 'done' }] })
  await go(page, `#/compare?runs=${rows.map(({ id }) => id).join(',')}`)
  await eventually(
    () => page.getByRole('region', { name: 'Comparison table' }).count(),
    (count) => count === 1,
    20_000,
  )
  await measureCompare(page, session)
  process.exitCode = missed.length > 0 ? 1 : 0
} finally {
  await browser.close()
  await workbench.close()
}

interface Frames {
  /** Milliseconds of the page's own thread for each frame: on a busy machine only this shows what a screen costs. */
  computed: number
  count: number
  /** Milliseconds between two frames: median and 99th percentile. */
  median: number
  nearlyAll: number
}

/** Milliseconds that the page's own thread has computed so far. The session must have enabled `Performance` with `threadTicks`. */
async function threadMilliseconds(session: CDPSession): Promise<number> {
  const { metrics } = await session.send('Performance.getMetrics')
  return (metrics.find(({ name }) => name === 'TaskDuration')?.value ?? 0) * 1000
}

/** Scrolls an element by some pixels in three seconds. */
async function scrollThrough(page: Page, session: CDPSession, selector: string, pixels: number): Promise<Frames> {
  const before = await threadMilliseconds(session)
  const times = await page.locator(selector).evaluate(async (scroller, distance) => {
    const stamps: number[] = []
    const [began, start] = [performance.now(), scroller.scrollTop]
    await new Promise<void>((resolve) => {
      const frame = (now: number) => {
        stamps.push(now)
        scroller.scrollTop = start + ((now - began) / 3000) * distance
        if (now - began < 3000) requestAnimationFrame(frame)
        else resolve()
      }
      requestAnimationFrame(frame)
    })
    return stamps
  }, pixels)
  const computed = ((await threadMilliseconds(session)) - before) / Math.max(1, times.length)
  const gaps = times
    .slice(1)
    .map((time, at) => time - (times[at] as number))
    .sort((a, b) => a - b)
  const at = (share: number) => gaps[Math.floor(gaps.length * share)] ?? 0
  return { computed, count: times.length, median: at(0.5), nearlyAll: at(0.99) }
}
