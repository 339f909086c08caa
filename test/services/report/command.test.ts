import { expect, it } from 'vitest'
import { parseFlags } from '#cli/flags/flags.ts'
import { commandedRuns } from '#cli/requests.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import type { MethodEntry } from '#contract/pruning/methods.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { commandOf } from '#services/report/command.ts'

const text = import.meta.filename
const calibration = { source: text, sequenceLength: 64, windows: 4 }
const plain: RunRequest = {
  model: 'tiny',
  method: '2ssp_fit',
  amount: { sparsity: 0.25 },
  options: {},
  seed: 0,
  calibration,
  measures: [],
  backend: 'auto',
}
const entry = { id: 'tiny', path: 'tiny', description: { shape: { blocks: 6, contextLength: 256 } } } as ModelEntry
const repairsByDefault = [{ id: '2ssp_fit', repair: 'in-order' }] as MethodEntry[]

/** What the command line makes of the command that a report shows. */
function repeated(request: RunRequest): unknown {
  const words = commandOf('tiny', request)?.match(/'[^']*'|\S+/g) ?? []
  const commanded = commandedRuns(parseFlags(words.slice(1).map((word) => word.replaceAll("'", ''))), entry, repairsByDefault)
  return 'request' in commanded && { ...commanded.request, model: 'tiny' }
}

it.each<[string, Partial<RunRequest>]>([
  ['a method that repairs by default, without a repair', {}],
  ['a repair', { repair: { kind: 'one-pass', calibration } }],
  ['a precision', { precision: 'bfloat16' }],
  ['a memory budget', { memoryBytes: 300_000_001 }],
  ['a backend and a seed', { backend: 'ggml', seed: 3 }],
  ['a list among the options', { method: 'evopress', options: { offspring: 8, survivors: [2, 1] }, amount: { blocks: 2 } }],
])('the command in a report repeats a run with %s', (_, changed) => {
  const request = { ...plain, ...changed }
  expect(repeated(request)).toEqual(request)
})
