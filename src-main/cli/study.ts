import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { stderr, stdout } from 'node:process'
import { executeAblation } from '#engine/ablation-run.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { releaseModel } from '#engine/model/kept-model.ts'
import { ablations } from '#engine/pruning/ablations/index.ts'
import { renderSvg } from '#engine/pruning/ablations/plot.ts'
import type { RunHost } from '#engine/run-steps.ts'
import { toCsv } from '#services/table-text.ts'
import type { Flags } from './flags.ts'
import type { ProgressLine } from './progress-line.ts'
import { ablationRequest } from './requests.ts'
import { toText } from './result-table.ts'
import { StepJournal } from './step-journal.ts'

/** Runs the ablations that were asked for: each prints its table and saves table and plot (SVG) in the output folder. */
export async function study(
  flags: Flags,
  model: string,
  spec: DecoderSpec,
  line: ProgressLine,
  fetchFile: RunHost['fetchFile'],
): Promise<number> {
  const folder = resolve(flags.output ?? 'ablations')
  mkdirSync(folder, { recursive: true })
  const names = flags.ablation === 'all' ? Object.keys(ablations) : [flags.ablation ?? '']
  const results: Record<string, unknown> = {}
  for (const name of names) {
    const request = ablationRequest(flags, model, spec, name)
    const journal = await StepJournal.open(request)
    if (journal.size > 0) stderr.write(`Going on from ${journal.size} finished steps of an earlier start.\n`)
    const host: RunHost = {
      steps: journal.stepsOf(0),
      signal: new AbortController().signal,
      emit: (event) => {
        if (event.type === 'progress') line.show(event.progress)
      },
      ...(fetchFile ? { fetchFile } : {}),
    }
    const { table, plot, notes } = await executeAblation(request, host).finally(() => line.clear())
    journal.remove()
    writeFileSync(join(folder, `${name}.csv`), toCsv(table))
    writeFileSync(join(folder, `${name}.svg`), renderSvg(plot))
    results[name] = { table, plot, notes }
    if (flags.json) continue
    stdout.write(`${ablations[name as keyof typeof ablations].title}\n${toText(table)}${notes.map((note) => `Note: ${note}\n`).join('')}`)
    stdout.write(`Saved as ${join(folder, `${name}.csv`)} and .svg\n\n`)
  }
  await releaseModel()
  if (flags.json) stdout.write(`${JSON.stringify(names.length === 1 ? results[names[0] ?? ''] : results)}\n`)
  return 0
}
