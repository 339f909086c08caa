/**
 * Fills a history with 10,000 runs of 40 measures each and times what the history screen asks: `npm run bench -- history [runs]`. Each must
 * stay under 50 ms.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runQuery } from '#contract/runs/runs.ts'
import { openHistory } from '#db/history.ts'
import { runColumns } from '#db/runs/run-columns.ts'
import { openWorkbench } from '#services/workbench.ts'
import { fillHistory } from '../fixtures/fill-history.ts'

const runs = Number(process.argv[2] ?? 10_000)
const measures = 40
const limitMilliseconds = 50

const folder = mkdtempSync(join(tmpdir(), 'espalier-bench-'))
const history = openHistory(folder)
try {
  const filling = performance.now()
  fillHistory(history, runs, measures)
  console.log(`${runs} runs with ${measures} measures each written in ${((performance.now() - filling) / 1000).toFixed(1)} s`)
  const { rows } = history.queries.page(runQuery.parse({ limit: 200 }))
  const slow = Object.entries(questions())
    .filter(([name, ask]) => report(name, ask) > limitMilliseconds)
    .map(([name]) => name)
  slow.push(...(await reportCall('columns of everything', async () => runColumns(history.db, runQuery.parse({})), 2 * limitMilliseconds)))
  const call = await openWorkbench({ folder, devices: [], bundledModel: null, worksQueue: false })
  const ids = rows.map(({ id }) => id)
  slow.push(...(await reportCall('runs.query through the workbench', () => call.call('runs.query', {}), limitMilliseconds)))
  slow.push(...(await reportCall('compare.get of 200 runs', () => call.call('compare.get', { ids }), 2 * limitMilliseconds)))
  await call.close()
  process.exitCode = slow.length > 0 ? 1 : 0
} finally {
  history.close()
  rmSync(folder, { recursive: true })
}

function questions(): Record<string, () => unknown> {
  const ask = (query: Parameters<typeof runQuery.parse>[0]) => () => history.queries.page(runQuery.parse(query))
  return {
    'newest 100, all columns': ask({}),
    'window at 9,000': ask({ offset: 9000 }),
    'filter by method and sparsity': ask({
      conditions: [
        { field: 'method', is: 'any of', value: ['2ssp', 'shortgpt'] },
        { field: 'nominal', is: 'above', value: 0.3 },
      ],
    }),
    'filter by a measure': ask({ conditions: [{ field: 'measure:perplexity/data 3', is: 'below', value: 20 }] }),
    'filter by a parameter': ask({ conditions: [{ field: 'parameter:alpha', is: 'between', value: [1, 2] }] }),
    'filter by tag': ask({ conditions: [{ field: 'tag', is: 'any of', value: ['tag 3'] }] }),
    'sort by a measure': ask({ sort: [{ field: 'measure:perplexity/data 7' }] }),
    'sort by a parameter, then a measure': ask({
      sort: [{ field: 'parameter:alpha' }, { field: 'measure:perplexity/data 7', direction: 'descending' }],
    }),
    'search a word': ask({ search: 'calibration' }),
    'search two prefixes': ask({ search: 'run 12' }),
    'all at once': ask({
      search: 'run',
      conditions: [
        { field: 'measure:perplexity/data 3', is: 'below', value: 30 },
        { field: 'tag', is: 'present' },
      ],
      sort: [{ field: 'measure:perplexity/data 7' }],
    }),
  }
}

/** Asks 17 times; the first two are for warming up. Returns the median processor time. */
function report(name: string, ask: () => unknown): number {
  const timings = timingsOf(name)
  for (let at = 0; at < 17; at++) {
    timings.start()
    ask()
    timings.stop()
  }
  return timings.print()
}

/** The same for a call, with its input and output checked. */
async function reportCall(name: string, ask: () => Promise<unknown>, limit: number): Promise<string[]> {
  const timings = timingsOf(name)
  for (let at = 0; at < 17; at++) {
    timings.start()
    await ask()
    timings.stop()
  }
  return timings.print() > limit ? [name] : []
}

/** Wall and processor time: on a busy machine only the latter shows what a question costs. */
function timingsOf(name: string) {
  const walls: number[] = []
  const processor: number[] = []
  let started = 0
  let used = process.cpuUsage()
  return {
    start(): void {
      started = performance.now()
      used = process.cpuUsage()
    },
    stop(): void {
      walls.push(performance.now() - started)
      const { user, system } = process.cpuUsage(used)
      processor.push((user + system) / 1000)
    },
    print(): number {
      const [wall, work] = [walls, processor].map((times) => times.slice(2).sort((a, b) => a - b)) as [number[], number[]]
      const median = wall[7] as number
      const figures = [`${median.toFixed(1).padStart(6)} ms`, `worst ${wall.at(-1)?.toFixed(1)} ms`, `processor ${work[7]?.toFixed(1)} ms`]
      console.log(`${name.padEnd(40)} ${figures.join(', ')}`)
      return work[7] as number
    },
  }
}
