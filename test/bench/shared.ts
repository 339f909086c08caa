/**
 * Passes that the paper's table grid computes on the bundled sample model, against those that its runs would need if none shared anything:
 * `node test/bench/shared.ts [--windows N]`. A pass is a window through one submodule. Every run is done once in the experiment and once alone.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { RunDetail } from '#contract/runs.ts'
import { openHistory } from '#db/history.ts'
import { sampleModel } from '#services/sample-model.ts'
import { openWorkbench, type Workbench } from '#services/workbench.ts'

const { values } = parseArgs({ options: { windows: { type: 'string', default: '64' } } })
const sample = sampleModel() as string
const folder = mkdtempSync(join(tmpdir(), 'espalier-shared-bench-'))
const workbench = await openWorkbench({ folder })
const model = await eventually(async () => (await workbench.call('models.list', {}))[0], 'the sample model')
const methods = ['2ssp', 'window_based', 'shortgpt', 'blockpruner', 'evopress', 'slicegpt']
const grid = {
  models: [model.id],
  methods: methods.map((method) => ({ method })),
  amounts: [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }],
  calibration: { source: join(sample, 'calibration.txt'), sequenceLength: 256, windows: Number(values.windows) },
}

const { runs } = await workbench.call('experiments.create', { name: 'together', grid, leaveOut: true })
const together = await Promise.all(runs.map(({ id }) => ended(workbench, id)))
const alone: RunDetail[] = []
for (const { request, model: of } of together) {
  const { model: _, ...rest } = request
  alone.push(await ended(workbench, (await workbench.call('runs.create', { model: of.id, request: rest })).id))
}
await workbench.close()

const blocks = model.description.shape.blocks
const history = openHistory(folder)
/** Names of the steps that a run has in common with others, which only a run alone keeps as its own. */
const stepsOf = ({ id }: RunDetail) => history.steps.names(id).filter((name) => name.startsWith('shared:'))
const looks = (name: string) => 2 * blocks * Number(/(\d+) windows/.exec(name)?.[1] ?? 0)
const searched = ({ passes }: RunDetail) => (passes ? passes.attention + passes.mlp : 0)
const sum = (numbers: Iterable<number>) => [...numbers].reduce((all, one) => all + one, 0)

console.log('method         sparsity  computed    needed alone')
for (const [at, run] of together.entries()) {
  const twin = alone[at] as RunDetail
  console.log(
    `${run.method.padEnd(14)} ${String(run.nominal).padEnd(8)}  ${String(searched(run)).padEnd(10)}  ${searched(twin) + sum(stepsOf(twin).map(looks))}`,
  )
}
const common = new Set(alone.flatMap(stepsOf))
const computed = sum(together.map(searched)) + sum([...common].map(looks))
const needed = sum(alone.map(searched)) + sum(alone.flatMap(stepsOf).map(looks))
console.log(
  `steps in common: ${common.size} computed once, where runs ask for them ${alone.flatMap(stepsOf).length} times (${sum([...common].map(looks))} passes among those computed)`,
)
console.log(`passes computed ${computed}, needed without sharing ${needed}: ${(needed / computed).toFixed(2)} times fewer`)
history.close()
rmSync(folder, { recursive: true, force: true })

async function ended({ call }: Workbench, id: string): Promise<RunDetail> {
  const run = await eventually(async () => {
    const now = await call('runs.get', { id })
    return ['done', 'failed', 'interrupted'].includes(now.status) ? now : undefined
  }, id)
  if (run.status !== 'done') throw new Error(`${run.name}: ${run.problem?.message}`)
  return run
}

async function eventually<T>(ask: () => Promise<T | undefined>, what: string): Promise<T> {
  for (let tries = 0; tries < 50_000; tries++) {
    const answer = await ask()
    if (answer !== undefined) return answer
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  throw new Error(`${what} never came.`)
}
