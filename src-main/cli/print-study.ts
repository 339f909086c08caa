import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stdout } from 'node:process'
import { EspalierError } from '#contract/errors.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { titleOfMethod } from '#contract/titles.ts'
import { renderSvg } from '#services/comparison/plot-svg.ts'
import { toCsv } from '#services/comparison/table-text.ts'
import { toText } from './result-table.ts'

/** Saves an ablation's table as CSV and its plot as SVG, and prints the table. */
export async function printStudy({ method, name, study, remarks }: RunDetail, folder: string, quiet: boolean): Promise<void> {
  if (!study) throw new EspalierError('internal', `"${name}" has no table.`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${method}.csv`), toCsv(study.table))
  writeFileSync(join(folder, `${method}.svg`), await renderSvg(study.plot))
  if (quiet) return
  stdout.write(`${titleOfMethod(method)}\n${toText(study.table)}${remarks.map((note) => `Note: ${note}\n`).join('')}`)
  stdout.write(`Saved as ${join(folder, `${method}.csv`)} and .svg\n\n`)
}
