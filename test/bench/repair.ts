/**
 * What repair gains, and what it costs beside pruning:
 *
 *   npm run bench -- repair MODEL CALIBRATION TEST FOLDER [SEEDS [RECOVERY [METHODS]]]
 *
 * Prunes with 2SSP at 25, 37.5 and 50 % and with the depth methods at 25 %, repairs each, and takes perplexities on
 * TEST and on the bundled texts. Every case is a line of FOLDER/results.jsonl and is not measured again; steps are kept in FOLDER too. At
 * the end the table is printed: means over SEEDS (3), with deviations; with SEEDS 0 it is what was measured so far. RECOVERY, minutes
 * ("10min") or tokens, measures METHODS (gates,2ssp) instead, calibrated half on CALIBRATION and half on the bundled mixed text: as pruned,
 * the first of them repaired in order too, and unless RECOVERY is "none" recovered with and without the repair.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { argv } from 'node:process'
import { recoveryAmount } from '#cli/flags/flag-values.ts'
import { denseMethod } from '#contract/titles.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { type Model, openModel, withProducts } from '#engine/model/model.ts'
import { productsFor, resolvePrecision } from '#engine/model/precision.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import type { Recovered } from '#engine/pruning/recovery/recover.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import type { StepBase } from '#engine/steps/step-name.ts'
import { baseOf, FolderRun } from './folder-runs/folder-run.ts'
import { perplexitiesOf, readRepairText, testNames } from './folder-runs/repair-texts.ts'
import { prune, recover } from './folder-runs/stages.ts'

interface Case {
  readonly method: string
  readonly sparsity: number
  readonly seed: number
  readonly repair: 'none' | 'one-pass' | 'in-order'
  /** How long the repaired plan is trained. */
  readonly recovery?: string | undefined
  /** Whether half of the calibration text is the bundled mixed one. */
  readonly mixed?: boolean
}

interface Result extends Case {
  readonly perplexities: Record<string, number>
  readonly pruningSeconds: number
  readonly repairSeconds: number
  /** The training's report. */
  readonly recovered?: Recovered['recovery'] & { readonly recoverySeconds: number }
  /** Projections that kept their old weights. */
  readonly kept: number
}

const [modelPath = '', calibrationPath = '', testPath = '', folder = '', seedCount = '3', recovery, methods = 'gates,2ssp'] = argv.slice(2)
const seeds = Array.from({ length: Number(seedCount) }, (_, seed) => seed)
const sparsities = [0.5, 0.375, 0.25]

/** The most informative cases first: 2SSP as pruned and repaired in one pass, seed by seed; depth methods; the rest. */
function cases(): Case[] {
  if (recovery) {
    const [first, ...others] = methods.split(',')
    const repairs = ['none', 'in-order'] as const
    return seeds.flatMap((seed) =>
      sparsities.flatMap((sparsity) => {
        const pruned = { sparsity, seed, mixed: true }
        const repaired = repairs.map((repair): Case => ({ ...pruned, method: first as string, repair }))
        const plain = others.map((method): Case => ({ ...pruned, method, repair: 'none' }))
        return [...repaired, ...(recovery === 'none' ? [] : repaired.map((one) => ({ ...one, recovery }))), ...plain]
      }),
    )
  }
  const repairs = ['none', 'one-pass', 'in-order'] as const
  const ofMethods = (methods: readonly string[]) => methods.flatMap((method) => repairs.map((repair) => ({ method, repair })))
  const widths = ofMethods(['2ssp'])
  const isFirst = ({ repair }: Pick<Case, 'repair'>) => repair !== 'in-order'
  const over = (some: typeof widths, sparsities: readonly number[]): Case[] =>
    seeds.flatMap((seed) => sparsities.flatMap((sparsity) => some.map((one) => ({ ...one, sparsity, seed }))))
  const first = widths.filter(isFirst)
  const rest = widths.filter((one) => !isFirst(one))
  const [depths, evopress] = [ofMethods(['shortgpt', 'blockpruner_submodule']), ofMethods(['evopress_submodule'])]
  const isLast = ({ repair }: Pick<Case, 'repair'>) => repair === 'in-order'
  const depthsFirst = [depths, evopress].flatMap((some) =>
    over(
      some.filter((one) => !isLast(one)),
      [0.25],
    ),
  )
  const depthsRest = over([...depths, ...evopress].filter(isLast), [0.25])
  const dense: Case = { method: denseMethod, sparsity: 0, seed: 0, repair: 'none' }
  return [dense, ...over(first, sparsities), ...depthsFirst, ...depthsRest, ...over(rest, sparsities)]
}

const nameOf = ({ method, sparsity, seed, repair, recovery, mixed }: Case) => [method, sparsity, seed, repair, recovery, mixed].join(' ')

async function measure(model: Model, base: StepBase, one: Case): Promise<Result> {
  const { seed, repair } = one
  const view = denseView(model)
  const pruning = new FolderRun(folder, base, seed)
  const plan = await prune(model, calibrationPath, one, pruning)
  const repairing = new FolderRun(folder, base, seed)
  const windows = repair === 'none' ? [] : await readRepairText(model, calibrationPath, seed)
  const start = performance.now()
  const repaired =
    repair === 'none'
      ? { plan, tensors: undefined, projections: [] }
      : await repairPlan({ view, plan, windows, kind: repair, run: repairing })
  const repairSeconds = (performance.now() - start) / 1000 + (repairing.found?.seconds ?? 0)
  const amount = recoveryAmount(one.recovery ?? 'none', 'RECOVERY')
  const recovered =
    amount === 'none'
      ? undefined
      : await recover(model, { calibrationPath, testPath, seed }, amount, repaired, windows, new FolderRun(folder, base, seed))
  const recoverySeconds = (performance.now() - start) / 1000 - repairSeconds + (repairing.found?.seconds ?? 0)
  const ended = recovered ?? repaired
  const own = viewWithPlan(model, ended.plan, ended.tensors)
  const perplexities = await perplexitiesOf(own, testPath)
  own.dispose()
  const kept = repaired.projections.filter(({ before, after }) => !(after < before)).length
  return {
    ...{ ...one, perplexities, pruningSeconds: pruning.seconds, repairSeconds, kept },
    ...(recovered ? { recovered: { ...recovered.recovery, recoverySeconds } } : {}),
  }
}

/** Mean, and the deviation if there are several seeds. */
function spread(values: readonly number[]): string {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  if (values.length < 2) return mean.toFixed(1)
  const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1))
  return `${mean.toFixed(1)} ± ${deviation.toFixed(1)}`
}

function printTable(results: readonly Result[]): void {
  const groups = Map.groupBy(
    results,
    ({ method, sparsity, repair, recovery, mixed }) =>
      `${method} | ${100 * sparsity} % | ${[mixed && 'mixed', repair, recovery].filter(Boolean).join(', ')}`,
  )
  const names = testNames
  console.log(`| method | asked | repair | draws | ${names.join(' | ')} | pruning [s] | repair [s] |`)
  console.log(`| ${Array.from({ length: names.length + 6 }, () => '---').join(' | ')} |`)
  for (const [title, group] of groups) {
    const columns = [`${group.length}`, ...names.map((name) => spread(group.map(({ perplexities }) => perplexities[name] ?? Number.NaN)))]
    const seconds = [spread(group.map(({ pruningSeconds }) => pruningSeconds)), spread(group.map(({ repairSeconds }) => repairSeconds))]
    console.log(`| ${[title, ...columns, ...seconds].join(' | ')} |`)
  }
}

mkdirSync(folder, { recursive: true })
const output = join(folder, 'results.jsonl')
const results: Result[] = existsSync(output)
  ? readFileSync(output, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Result)
  : []
if (seeds.length > 0) await measureAll()
printTable(results)

async function measureAll(): Promise<void> {
  await openBackend()
  const opened = await openModel(modelPath)
  const precision = resolvePrecision('auto', opened.spec)
  const model = withProducts(opened, productsFor(precision))
  const base = await baseOf(model, precision)
  for (const one of cases()) {
    if (results.some((known) => nameOf(known) === nameOf(one))) continue
    const result = await measure(model, base, one)
    appendFileSync(output, `${JSON.stringify(result)}\n`)
    results.push(result)
    console.error(JSON.stringify(result))
  }
  await model.close()
}
