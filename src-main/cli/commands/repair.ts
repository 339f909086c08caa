import { EspalierError } from '#contract/errors.ts'
import { defaultRepairData, defaultRepairWindows, fewestRepairWindows, repairKind } from '#contract/pruning/repair.ts'
import type { RepairRequest } from '#contract/runs/run-request.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { textFlag } from '../flags/flag-values.ts'
import { startChanged } from './output/follow-runs.ts'
import { commonFlags, commonHelp, readCount, readFlags } from './read-flags.ts'
import { command } from './run-command.ts'

const help = `espalier repair RUN [--kind one-pass|in-order] [--text TEXT] [--samples N] [--wait]

Repairs a run in closed form. Creates a new run with the same removals and measures, in which the remaining weights are refitted to
make up for what was removed. The new run reuses the run's finished steps.

  --kind KIND          one-pass, or in-order: better, takes about twice as long (default)
  --text TEXT          the text to calibrate the repair on, or several as a.txt:0.5,b.txt:0.5 (default: three quarters
                       the run's calibration text, one quarter bundled mixed text)
  --samples N          number of windows of that text (default ${defaultRepairWindows})
  --wait               wait for the run to end, even if a server computes it
${commonHelp}`

const flags = {
  ...commonFlags,
  kind: { type: 'string', default: 'in-order' },
  text: { type: 'string' },
  samples: { type: 'string', default: String(defaultRepairWindows) },
  wait: { type: 'boolean', default: false },
} as const

export const repair = command('repair', help, async (given) => {
  const { values, words } = readFlags(given, flags, { least: 1, most: 1, name: 'The run’s id' })
  const kind = repairKind.safeParse(values.kind)
  if (!kind.success) throw new EspalierError('usage', `--kind is "${values.kind}"; it must be ${repairKind.options.join(' or ')}.`)
  const windows = readCount(values.samples, '--samples', 1_000_000, fewestRepairWindows)
  const changesOf = (run: RunDetail) => ({ repair: { kind: kind.data, calibration: { ...textFor(run, values.text), windows } } })
  return startChanged(words[0] as string, changesOf, values)
})

/** Returns the text that a repair is fitted on. A text from `--text` is cut into windows of the run's calibration length. */
function textFor({ name, request }: RunDetail, text: string | undefined): Omit<RepairRequest['calibration'], 'windows'> {
  if (!request.calibration) throw new EspalierError('usage', `"${name}" removes nothing, so there is nothing to repair.`)
  const { windows: _, ...usual } = defaultRepairData(request.calibration)
  return text ? { ...textFlag('text', text), sequenceLength: request.calibration.sequenceLength } : usual
}
