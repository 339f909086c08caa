import { stdout } from 'node:process'
import type { BeginChoice } from '#contract/data/begin-token.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import type { DivergenceRequest } from '#contract/inspection/inspection.ts'
import type { DivergenceDocument } from '#contract/runs/run.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { denseMethod } from '#contract/titles.ts'
import { doRun } from './command-runs.ts'
import type { CommandWorkbench } from './command-workbench.ts'
import type { ProgressLine } from './progress-line.ts'
import { toText } from './result-table.ts'

/** How many runs are compared with the dense model in one pass. */
const runsPerPass = 5

/** Compares a command's pruned runs with the dense model. Returns the divergence for each run's document, by run id. */
export async function evaluateDivergence(
  workbench: CommandWorkbench,
  runs: readonly RunDetail[],
  data: DataRequest,
  beginToken: BeginChoice,
  line: ProgressLine,
): Promise<Map<string, DivergenceDocument>> {
  const pruned = runs.filter(({ method, hasPlan }) => hasPlan && method !== denseMethod).map(({ id }) => id)
  const found = new Map<string, DivergenceDocument>()
  for (let first = 0; first < pruned.length; first += runsPerPass) {
    const inspect = { kind: 'divergence' as const, runs: pruned.slice(first, first + runsPerPass), data }
    const run = await inspectionFor(workbench, inspect, beginToken)
    const { inspected } = await doRun(workbench, run, (event) => {
      if (event.type === 'progress') line.show(event.progress)
    }).finally(() => line.clear())
    if (inspected?.kind !== 'divergence') continue
    const { data: used, tokens, dense } = inspected.divergence
    for (const { run: subject, ...rest } of inspected.divergence.runs) found.set(subject.id, { data: used, tokens, dense, ...rest })
  }
  return found
}

/** Returns the run that makes this comparison: one from an earlier start of this command, or else a new draft. */
async function inspectionFor({ call }: CommandWorkbench, inspect: DivergenceRequest, beginToken: BeginChoice) {
  const { runs } = await call('runs.inspectionsOf', { id: inspect.runs[0] as string })
  for (const run of runs) {
    const { request } = await call('runs.get', { id: run.id })
    const isSame = request.beginToken === beginToken && JSON.stringify(request.inspect) === JSON.stringify(inspect)
    if (run.status !== 'running' && isSame) return run
  }
  return call('runs.inspect', { inspect, beginToken, start: 'draft' })
}

/** Prints the numbers that llama.cpp reports for a divergence, one row per run. */
export function printDivergences(found: ReadonlyMap<string, DivergenceDocument>, runs: readonly RunDetail[]): void {
  const columns = ['mean', 'median', 'p90', 'p95', 'p99', 'p999', 'sameTop', 'changeRms', 'perplexityRatio'] as const
  const labels = [
    'run',
    'tokens',
    ...['mean KL', 'median', '90 %', '95 %', '99 %', '99.9 %', 'same top', 'RMS Δp', 'perplexity ratio'].flatMap((label) => [label, '±']),
    'largest',
  ]
  stdout.write('\nDivergence from the dense model, in nats\n')
  stdout.write(
    toText({
      columns: labels.map((label, column) => ({ label, numeric: column > 0 })),
      rows: runs.flatMap(({ id, name }) => {
        const document = found.get(id)
        if (!document) return []
        const { numbers, tokens } = document
        return [
          [
            { value: name },
            { value: tokens },
            ...columns.flatMap((key) => [{ value: numbers[key].value }, { value: numbers[key].error }]),
            { value: numbers.largest },
          ],
        ]
      }),
    }),
  )
}
