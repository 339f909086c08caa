import { meanOf } from '#contract/comparison/statistics.ts'
import { beginText } from '#contract/data/begin-token.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { Recovery } from '#contract/pruning/recovery.ts'
import type { Repair } from '#contract/pruning/repair.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { usedText } from '../used-text.ts'
import { printable, printTable, showMoment, showPercent, showSeconds } from './output/print.ts'

/** Prints a run's settings, decisions and measures. */
export function showRun(run: RunDetail, log: string | undefined): void {
  const facts: [string, string | null][] = [
    ['name', run.name],
    ['status', run.status],
    ['experiment', run.experiment && `${run.experiment.name} (${run.experiment.id})`],
    ['model', `${run.model.name} (${run.model.id})`],
    ['method', run.method],
    ['options', JSON.stringify(run.resolved)],
    ['seed', `${run.seed}`],
    ['begin token', run.beginToken ? beginText(run.beginToken) : null],
    ['calibrated on', run.calibration && usedText(run.calibration)],
    ['repaired', run.repair && describeRepair(run.repair)],
    ['recovered', run.recovery && describeRecovery(run.recovery)],
    ...run.evaluation.map((used): [string, string] => ['measured on', usedText(used)]),
    ['removed', describeRemoved(run)],
    ['created', `${showMoment(run.createdAt)} UTC`],
    ['took', showSeconds(run.seconds)],
    ['device', run.device],
    ['plan', run.plan && describePlan(run.plan)],
    ['problem', run.problem && [run.problem.message, run.problem.advice].filter(Boolean).join(' ')],
    ['notes', run.notes || null],
  ]
  for (const [name, value] of facts) if (value !== null) console.log(`${name.padEnd(13)} ${printable(value)}`)
  if (run.measures.length > 0) {
    console.log('')
    printTable(
      ['MEASURE', 'DATA', 'VALUE', 'UNIT', 'ERROR'],
      run.measures.map(({ name, dataset, value, unit, error }) => [
        name,
        dataset,
        Number(value.toPrecision(7)),
        unit,
        error === undefined ? null : Number(error.toPrecision(3)),
      ]),
    )
  }
  for (const remark of run.remarks) console.log(`\n${printable(remark)}`)
  if (log !== undefined) console.log(`\n${log.split('\n').map(printable).join('\n')}`)
}

function describeRemoved({ reached, nominal }: RunDetail): string | null {
  return reached === null ? showPercent(nominal) : `${showPercent(reached)} (requested: ${showPercent(nominal) ?? '-'})`
}

function describeRepair({ kind, calibration, seconds, blocks }: Repair): string {
  const replaced = blocks.filter(({ before, after }) => after < before).length
  return `${kind}, ${replaced} of ${blocks.length} projections replaced, in ${showSeconds(seconds)}; fitted on ${usedText(calibration)}`
}

function describeRecovery({ tokens, best, points, seconds, text }: Recovery): string {
  const mean = (values: readonly number[] = []) => meanOf(values).toFixed(3)
  const change = best === 0 ? 'weights unchanged' : `held-out divergence ${mean(points[0]?.heldOut)} to ${mean(points[best]?.heldOut)} nats`
  return `${tokens.toLocaleString('en')} tokens in ${showSeconds(seconds)}, ${change}; trained on ${usedText(text)}`
}

/** Describes a plan in one line: the removed attention submodules and MLPs, and the kept experts, neurons and width. */
function describePlan({ blocks, slice }: Plan): string {
  const attention = blocks.flatMap((block, index) => (block.attention === 'removed' ? [index] : []))
  const mlp = blocks.flatMap((block, index) => (block.mlp === 'removed' ? [index] : []))
  const mlps = blocks.flatMap((block) => (block.mlp === 'removed' ? [] : [block.mlp]))
  const widths = sizes(mlps.flatMap(({ kept, keptByExpert = [] }) => (kept === 'all' ? keptByExpert : [kept])))
  const experts = sizes(mlps.flatMap((mlp) => (mlp.experts ? [mlp.experts] : [])))
  const parts = [
    attention.length > 0 && `attention removed in ${attention.join(' ')}`,
    mlp.length > 0 && `MLP removed in ${mlp.join(' ')}`,
    experts && `experts kept: ${experts}`,
    widths && `MLP neurons kept: ${widths}`,
    slice && `width ${slice.width}`,
  ].filter((part) => part)
  return parts.length > 0 ? `${parts.join('; ')} (of ${blocks.length} blocks)` : `nothing removed (of ${blocks.length} blocks)`
}

/** Returns the distinct lengths of lists in ascending order, or an empty string if there are no lists. */
function sizes(lists: readonly (readonly number[])[]): string {
  return [...new Set(lists.map(({ length }) => length))].sort((a, b) => a - b).join(' ')
}
