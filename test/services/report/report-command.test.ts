import { expect, it } from 'vitest'
import { parseFlags } from '#cli/flags/flags.ts'
import { commandedRuns } from '#cli/requests.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { combinationsOf, runName } from '#services/experiments/grid.ts'
import { commandOf } from '#services/report/report-command.ts'

const text = import.meta.filename
const entry = { id: 'tiny', path: 'tiny', description: { shape: { blocks: 6, contextLength: 256 } } } as ModelEntry

/** The request that a command line makes. */
function requestOf(words: string[]): RunRequest {
  const commanded = commandedRuns(parseFlags(words), entry)
  if ('grid' in commanded) throw new Error('These are several runs.')
  return { ...commanded.request, model: 'tiny' }
}

const wordsOf = (command = ''): string[] => (command.match(/'[^']*'|\S+/g) ?? []).slice(1).map((word) => word.replaceAll("'", ''))

const pruned = ['--model=tiny', '--pruning_method=2ssp', '--sparsity=0.25', '--sequence_length=64', `--calibration_data=${text}`]
const longer = ['--model=tiny', '--pruning_method=2ssp', '--sparsity=0.25', '--sequence_length=1024', `--calibration_data=${text}`]
const measured = [`--eval_data=${text}`]
it.each([
  ['a method and a sparsity', pruned],
  ['a repair', [...pruned, '--repair=one-pass', '--calibration_samples=4']],
  ['a recovery', [...pruned, '--recover=4096', '--recover_weights=low-rank', `--recover_data=${text}`]],
  ['a recovery whose windows are shorter than those of the method', [...longer, '--repair=one-pass', '--recover=4096']],
  [
    'a share of experts',
    ['--model=tiny', '--pruning_method=reap', '--option', 'share=0.25', '--sequence_length=64', `--calibration_data=${text}`],
  ],
  ['a precision', [...pruned, '--precision=bfloat16']],
  ['a memory budget', [...pruned, '--memory=300000001']],
  ['a number of tokens that stay', [...pruned, '--vocabulary=32000']],
  ['a share of tokens that stay', [...pruned, '--vocabulary=7%']],
  ['a backend and a seed', [...pruned, '--backend=ggml', '--seed=3']],
  ['a list among the options', ['--model=tiny', '--pruning_method=evopress', '--num_prune=2', '--option=survivors=[2,1]']],
  ['some windows of two texts', [...pruned, ...measured, '--eval_data=prose', '--eval_samples=8']],
  [
    'every other measure',
    [...pruned, ...measured, '--evaluate_inference', '--evaluate_repetition', '--evaluate_long_context', '--evaluate_qualitative'],
  ],
  ['tasks', [...pruned, '--tasks=piqa,gsm8k', '--task_limit=5', '--apply_chat_template', `--task_folder=${import.meta.dirname}`]],
  ['inference of the dense model', ['--model=tiny', '--dense', '--evaluate_inference', '--sequence_length=512']],
])('the command in a report repeats a run with %s', (_, words) => {
  const request = requestOf(words)
  const command = commandOf('tiny', request)
  expect(command).not.toContain('#')
  expect(requestOf(wordsOf(command))).toEqual(request)
})

it('the window length of a repair or a recovery is named if the command would choose another', () => {
  const { repair, recover, ...rest } = requestOf([...longer, '--repair=one-pass', '--recover=4096'])
  if (!repair || !recover) throw new Error('Both were asked for.')
  const shorterRepair = { ...repair, calibration: { ...repair.calibration, sequenceLength: 512 } }
  expect(commandOf('tiny', { ...rest, repair: shorterRepair, recover })).toMatch(/# without: the window length of the repair$/)
  const longerRecovery = { ...recover, text: { ...recover.text, sequenceLength: 1024 } }
  expect(commandOf('tiny', { ...rest, repair, recover: longerRecovery })).toMatch(/# without: the window length of the recovery$/)
})

it('settings without a flag are named', () => {
  const data = { source: text, sequenceLength: 32, windows: 8 }
  const request: RunRequest = {
    ...requestOf([...pruned, '--recover=4096']),
    measures: [
      { kind: 'perplexity', data, name: 'short' },
      { kind: 'inference', sequenceLength: 64, repeats: 3 },
      { kind: 'answers', prompts: ['Mine'], maxLength: 64 },
    ],
  }
  const command = commandOf('tiny', { ...request, recover: { ...request.recover, rate: 0.001 } as RunRequest['recover'] })
  expect(command).toContain(
    '# without: the learning rate 0.001, the settings of perplexity, the settings of inference, the settings of answers',
  )
})

it('the dense model with fewer tokens is a run of the method that removes them, beside the dense model and what starts from them', () => {
  const grid = (words: string[]) => {
    const commanded = commandedRuns(parseFlags(words), entry)
    if (!('grid' in commanded)) throw new Error('This is one run.')
    return combinationsOf({ ...commanded.grid, backend: 'auto' }).map(({ request }) => [
      request.method,
      request.vocabulary,
      runName(request, 1),
    ])
  }
  const dense = ['--model=tiny', '--dense', '--vocabulary=32000', `--calibration_data=${text}`]
  const trimmed = ['vocabulary', undefined, 'Vocabulary, rows 32000']
  expect(grid(dense)).toEqual([['dense', undefined, 'dense'], trimmed])
  expect(grid([...dense, '--pruning_method=2ssp', '--sparsity=0.25,0.5'])).toEqual([
    ['dense', undefined, 'dense'],
    ['2ssp', { rows: 32_000 }, '2SSP 25 %, 32,000 tokens'],
    ['2ssp', { rows: 32_000 }, '2SSP 50 %, 32,000 tokens'],
    trimmed,
  ])
})
