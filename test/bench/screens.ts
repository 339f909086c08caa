/**
 * Times the screens in a real browser over the real server: start to interactive (limit 1 s), frames while 10,000 runs scroll
 * (60 a second), comparing 200 runs (100 ms a change), and the size of the bundle (400 kB gzip).
 */
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { argv } from 'node:process'
import { gzipSync } from 'node:zlib'
import type { Page } from 'playwright-core'
import { openHistory } from '#db/history.ts'
import { launchBrowser } from '../e2e/browser.ts'
import { eventually, go, openScreen } from '../e2e/screens.ts'
import { startWorkbench } from '../e2e/workbench.ts'
import { fillHistory } from './fill-history.ts'

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

/** From the address to a screen that lists runs and answers to a key, without and with the browser's cache. */
async function measureStart(page: Page, address: string, name: string): Promise<void> {
  await page.goto('about:blank')
  const began = performance.now()
  await page.goto(`${address}/#/runs`)
  await page.locator('tr[data-row="0"] a').waitFor()
  report(`start to interactive, ${name}`, performance.now() - began, limits.interactive, 'ms')
}

/** Scrolls through all rows in three seconds and counts the frames, and rows that were not there in time. */
async function measureScrolling(page: Page): Promise<void> {
  const times = await page.evaluate(async () => {
    const scroller = document.querySelector<HTMLElement>('.scroller')
    if (!scroller) return []
    const stamps: number[] = []
    const began = performance.now()
    await new Promise<void>((resolve) => {
      const frame = (now: number) => {
        stamps.push(now)
        scroller.scrollTop = ((now - began) / 3000) * 20_000
        if (now - began < 3000) requestAnimationFrame(frame)
        else resolve()
      }
      requestAnimationFrame(frame)
    })
    return stamps
  })
  const gaps = times
    .slice(1)
    .map((time, at) => time - (times[at] as number))
    .sort((a, b) => a - b)
  const middle = gaps[Math.floor(gaps.length / 2)] ?? 0
  const late = gaps[Math.floor(gaps.length * 0.95)] ?? 0
  report(`scrolling ${runs} runs, median frame`, middle, limits.frame + 1, 'ms', `95 of 100 within ${late.toFixed(1)} ms`)
}

/** The time from a click on a switch of the comparison to the frame that shows it. */
async function measureCompare(page: Page): Promise<void> {
  const label = page.getByText('Differences only')
  await label.waitFor()
  await page.waitForTimeout(1000)
  const times: number[] = []
  for (let turn = 0; turn < 6; turn += 1) {
    times.push(
      await page.evaluate(async () => {
        const boxes = [...document.querySelectorAll<HTMLInputElement>('input[type="checkbox"]')]
        const began = performance.now()
        boxes[0]?.click()
        await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)))
        return performance.now() - began
      }),
    )
  }
  const sorted = times.slice(1).sort((a, b) => a - b)
  report('comparing 200 runs, a switch to its frame', sorted[2] ?? 0, limits.compare, 'ms')
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
  const { page } = await openScreen(browser, workbench)
  await measureStart(page, workbench.address, 'first')
  await measureStart(page, workbench.address, 'again')
  await measureScrolling(page)
  const { rows } = await workbench.call('runs.query', { limit: 200, conditions: [{ field: 'status', is: 'equal', value: 'done' }] })
  await go(page, `#/compare?runs=${rows.map(({ id }) => id).join(',')}`)
  await eventually(
    () => page.getByRole('region', { name: 'Comparison table' }).count(),
    (count) => count === 1,
    20_000,
  )
  await measureCompare(page)
  process.exitCode = missed.length > 0 ? 1 : 0
} finally {
  await browser.close()
  await workbench.close()
}
