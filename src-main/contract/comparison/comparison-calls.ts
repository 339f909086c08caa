import { z } from 'zod'
import { call } from '../call.ts'
import { id, ids, limit, name, offset, paths, textFile } from '../identifiers.ts'
import { comparison, questionComparison } from './compared-run.ts'
import { tableFormat } from './table.ts'

/** The largest number of runs in one comparison. */
export const mostCompared = 500
/** The largest number of runs in a report on some runs. A report on an experiment has all of them. */
export const mostReported = 200

export const comparisonCalls = {
  'compare.get': call(
    'Runs with everything a comparison needs. The default baseline is a dense run among them, or else the one of their experiment.',
    z.object({ ids: ids.max(mostCompared), baseline: id.optional() }),
    comparison,
    'not-found',
  ),
  'compare.questions': call(
    'How two runs differ on the same questions: counts, tests, intervals, and the flipped questions.',
    z.object({ first: id, second: id, task: z.string().optional(), offset, limit }),
    questionComparison,
    'not-found',
    'conflict',
  ),
  'compare.table': call(
    'The comparison as a table file: a row for each run, one measure by method and sparsity with means over seeds, or the tests between the results that the two runs of `pair` belong to.',
    z.object({
      ids: ids.max(mostCompared),
      baseline: id.optional(),
      format: tableFormat,
      by: z.enum(['run', 'sparsity', 'pair']).default('run'),
      pair: z.tuple([id, id]).optional(),
      overSeeds: z.boolean().default(false),
      measures: z.array(z.string()).max(200).optional(),
    }),
    textFile,
    'not-found',
  ),

  'reports.make': call(
    'A report on an experiment or some runs, as self-contained HTML or as Markdown.',
    z.object({
      experiment: id.optional(),
      runs: ids.max(mostReported).optional(),
      title: name.optional(),
      format: z.enum(['html', 'markdown']).default('html'),
      overSeeds: z.boolean().default(true),
      paths,
    }),
    textFile,
    'not-found',
    'conflict',
  ),
}
