import { expertSentences } from '#contract/pruning/experts.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { titleOfMethod } from '#contract/titles.ts'
import { type Block, heading, paragraph, percent, tableBlock } from './blocks.ts'
import { planPicture } from './pictures.ts'
import { commandOf } from './report-command.ts'

/** Lists the runs with their main settings and their status. */
export function askedSection(runs: readonly RunDetail[]): Block[] {
  const rows = runs.map((run) => [
    run.name,
    titleOfMethod(run.method),
    run.model.name,
    percent(run.nominal),
    percent(run.reached),
    run.seed,
    run.status,
    run.calibration
      ? `${run.calibration.windows} × ${run.calibration.sequenceLength} tokens${run.calibration.beginToken ? ' with begin token' : ''}, ${run.calibration.hash.slice(0, 12)}`
      : null,
  ])
  const labels = ['Run', 'Method', 'Model', 'Requested', 'Reached', 'Seed', 'Status', 'Calibration windows, SHA-256']
  return [
    heading(2, 'Settings'),
    tableBlock(labels, rows, 'Runs. Requested and reached sparsity are shares of the block stack’s parameters.'),
  ]
}

/** Shows the model map of each pruned run. */
export function mapsSection(runs: readonly RunDetail[]): Block[] {
  const pruned = runs.filter(({ plan, baseline }) => plan !== null && !baseline)
  if (pruned.length === 0) return []
  return [
    heading(2, 'Remaining model'),
    paragraph(
      'Each row is a block: its attention, then the kept share of its MLP neurons, or its experts one by one. An expert that became a constant is a line. Removed parts are dashed.',
    ),
    {
      kind: 'beside',
      groups: pruned.map((run) => [
        heading(3, run.name),
        planPicture(run.name, run.plan as NonNullable<RunDetail['plan']>, run.modelDescription?.blocks ?? []),
      ]),
    },
  ]
}

/** Shows the runs' notes, where each was computed, and the commands that repeat them. */
export function environmentSection(runs: readonly RunDetail[], paths: boolean): Block[] {
  const rows = runs.flatMap(({ name, environment, seconds }) =>
    environment
      ? [
          [
            name,
            environment.version,
            environment.backend,
            environment.device,
            environment.platform,
            environment.node,
            seconds === null ? null : Math.max(1, Math.round(seconds)),
          ],
        ]
      : [],
  )
  const commands = runs.flatMap(({ model, request }) => commandOf(model.name === 'sample' ? 'sample' : request.model, request) ?? [])
  const notes = runs.flatMap(({ name, remarks, experts, plan }) =>
    [...remarks, ...(experts && plan ? expertSentences(experts, plan) : [])].map((remark) => `${name}: ${remark}`),
  )
  return [
    ...(notes.length > 0 ? [heading(2, 'Notes'), ...[...new Set(notes)].map(paragraph)] : []),
    heading(2, 'How it was computed'),
    tableBlock(['Run', 'Espalier', 'Backend', 'Device', 'Platform', 'Node', 'Seconds'], rows, 'Environment'),
    heading(2, 'How to repeat it'),
    ...(paths
      ? []
      : [paragraph('The commands name models and texts without their folders. Add the folders where they are on your machine.')]),
    { kind: 'code', text: commands.join('\n') },
  ]
}
