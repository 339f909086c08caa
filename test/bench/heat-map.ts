/**
 * Scrolls a long text as a heat map in a real browser over the real server: `npm run bench -- heat-map [tokens]` compares the sample
 * model with two pruned ones on that many tokens (100,000) and says what a frame costs (limit: 60 a second), slowly and fast.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { argv } from 'node:process'
import { launchBrowser } from '../e2e/browser.ts'
import { go, openScreen } from '../e2e/screens.ts'
import { startWorkbench, type Workbench } from '../e2e/workbench.ts'
import { eventually } from '../eventually.ts'
import { scrollThrough } from './browser/frames.ts'

const tokens = Number(argv[2] ?? 100_000)
const limit = 1000 / 60
const sample = join(import.meta.dirname, '../../resources/sample-model')

async function compare({ call }: Workbench): Promise<string> {
  const done = (id: string) =>
    eventually(
      () => call('runs.get', { id }),
      ({ status }) => status === 'done',
      600_000,
    )
  const [model] = await call('models.list', {})
  const { runs } = await call('experiments.create', {
    name: 'To be scrolled',
    grid: {
      models: [model?.id ?? ''],
      methods: [{ method: 'shortgpt' }],
      amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }],
      calibration: { source: join(sample, 'calibration.txt'), sequenceLength: 128, windows: 2 },
    },
  })
  for (const { id } of runs) await done(id)
  const texts = await Promise.all(['test.txt', 'calibration.txt'].map((name) => readFile(join(sample, name), 'utf8')))
  const { path } = await call('texts.upload', { name: 'long.txt', content: texts.join('\n') })
  const data = { source: path, sequenceLength: 256, windows: Math.ceil(tokens / 256) }
  const subjects = runs.filter(({ baseline }) => !baseline).map(({ id }) => id)
  const { id } = await call('runs.inspect', { inspect: { kind: 'divergence', runs: subjects, data } })
  const { inspected } = await done(id)
  if (inspected?.kind === 'divergence') console.log(`${inspected.divergence.tokens} tokens in ${inspected.divergence.pages.length} pages`)
  return id
}

const workbench = await startWorkbench()
const browser = await launchBrowser()
try {
  const id = await compare(workbench)
  const { page, context } = await openScreen(browser, workbench, 'light', 'no-preference')
  const session = await context.newCDPSession(page)
  await session.send('Performance.enable', { timeDomain: 'threadTicks' })
  await go(page, `#/broke/${id}`)
  await page.locator('.heat .token').first().waitFor({ timeout: 60_000 })
  for (const pixels of [6_000, 60_000, 240_000]) {
    const { computed, count, median, nearlyAll } = await scrollThrough(page, session, '.heat', pixels)
    if (computed > limit) process.exitCode = 1
    const apart = `${count} frames, ${median.toFixed(1)} ms apart, 99 of 100 within ${nearlyAll.toFixed(1)} ms`
    console.log(`${pixels / 3} pixels a second: ${computed.toFixed(1)} ms computed a frame (limit ${limit.toFixed(1)}), ${apart}`)
  }
} finally {
  await browser.close()
  await workbench.close()
}
