import type { CDPSession, Page } from 'playwright-core'

export interface Frames {
  /** Milliseconds of the page's own thread for each frame: on a busy machine only this shows what a screen costs. */
  computed: number
  count: number
  /** Milliseconds between two frames: median and 99th percentile. */
  median: number
  nearlyAll: number
}

/** Milliseconds that the page's own thread has computed so far. The session must have enabled `Performance` with `threadTicks`. */
export async function threadMilliseconds(session: CDPSession): Promise<number> {
  const { metrics } = await session.send('Performance.getMetrics')
  return (metrics.find(({ name }) => name === 'TaskDuration')?.value ?? 0) * 1000
}

/** Scrolls an element by some pixels in three seconds. */
export async function scrollThrough(page: Page, session: CDPSession, selector: string, pixels: number): Promise<Frames> {
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
