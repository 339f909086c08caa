/**
 * Passes that the paper's table grid computes on the bundled sample model, against those that its runs would need if no call knew anything of
 * another: `npm run bench -- shared [--windows N]`. A pass is a window through one submodule; within a call, candidates share what they begin
 * with on both sides. Runs of all methods but EvoPress are done once in the experiment and once alone; EvoPress counts itself what it recalled.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { RunDetail } from '#contract/runs/runs.ts'
import { openHistory } from '#db/history.ts'
import { sampleModel } from '#runtime/resources.ts'
import { openWorkbench, type Workbench } from '#services/workbench.ts'

const { values } = parseArgs({ options: { windows: { type: 'string', default: '64' } } })
const sample = sampleModel() as string
const folder = mkdtempSync(join(tmpdir(), 'espalier-shared-bench-'))
const workbench = await openWorkbench({ folder })
const model = await eventually(async () => (await workbench.call('models.list', {}))[0], 'the sample model')
const paper = ['2ssp', 'window_based', 'shortgpt', 'blockpruner', 'evopress', 'slicegpt']
const methods = [...paper, 'blockpruner_submodule', 'evopress_submodule']
const grid = {
  models: [model.id],
  methods: methods.map((method) => ({ method })),
  amounts: [{ sparsity: 0.25 }, { sparsity: 0.375 }, { sparsity: 0.5 }],
  calibration: { source: join(sample, 'calibration.txt'), sequenceLength: 256, windows: Number(values.windows) },
}

const { runs } = await workbench.call('experiments.create', { name: 'together', grid, leaveOut: true })
const together = await Promise.all(runs.map(({ id }) => ended(workbench, id)))
const recalls = ({ method }: RunDetail) => method.startsWith('evopress')
const alone = new Map<RunDetail, RunDetail>()
for (const run of together.filter((one) => !recalls(one))) {
  const { model: _, ...request } = run.request
  alone.set(run, await ended(workbench, (await workbench.call('runs.create', { model: run.model.id, request })).id))
}
await workbench.close()

const blocks = model.description.shape.blocks
const history = openHistory(folder)
/** Names of the steps that a run shares with others, which only a run outside an experiment stores as its own. */
const stepsOf = (twin: RunDetail | undefined) => (twin ? history.steps.names(twin.id).filter((name) => name.startsWith('shared:')) : [])
const looks = (name: string) => 2 * blocks * Number(/(\d+) windows/.exec(name)?.[1] ?? 0)
/** Rounds of greedy searches are steps too, but their passes are counted elsewhere. */
const isLook = (name: string) => /norms|similarities/.test(name)
const searched = ({ passes }: RunDetail) => (passes ? passes.attention + passes.mlp : 0)
const sum = (numbers: Iterable<number>) => [...numbers].reduce((all, one) => all + one, 0)
const lookedAt = (steps: Iterable<string>) => sum([...steps].filter(isLook).map(looks))
const needs = (run: RunDetail) => {
  const twin = alone.get(run)
  return twin ? searched(twin) + lookedAt(stepsOf(twin)) : searched(run) + (run.passes?.recalled ?? 0)
}
const seen = new Set<string>()
/** What a run computed in the experiment: of shared steps, those that no earlier run did. */
const computes = (run: RunDetail) => {
  const fresh = stepsOf(alone.get(run)).filter((name) => !seen.has(name))
  for (const name of fresh) seen.add(name)
  return searched(run) + lookedAt(fresh)
}

console.log('method                 sparsity  computed  needed')
const counts = together.map((run) => ({ run, computed: computes(run), needed: needs(run) }))
for (const { run, computed, needed } of counts)
  console.log(`${run.method.padEnd(21)}  ${String(run.nominal).padEnd(8)}  ${String(computed).padEnd(8)}  ${needed}`)
for (const [title, chosen] of [
  ...methods.map((one) => [one, [one]] as const),
  ['the paper’s six', paper] as const,
  ['all eight', methods] as const,
]) {
  const own = counts.filter(({ run }) => chosen.includes(run.method))
  const [computed, needed] = [sum(own.map((one) => one.computed)), sum(own.map((one) => one.needed))]
  console.log(`${title}: ${computed} computed, ${needed} needed without sharing: ${(needed / computed).toFixed(2)} times fewer`)
}
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
