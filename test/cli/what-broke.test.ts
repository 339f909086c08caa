import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { commands } from '#cli/commands/index.ts'
import type { Output } from '#contract/api.ts'
import { questionComparison } from '#contract/comparison/compared-run.ts'
import { judgingResult } from '#contract/judging/judging.ts'
import { transcript } from '#contract/playground/playground.ts'
import { runDocument } from '#contract/runs/run.ts'
import { connectWorkbench } from '#server/client.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { killPrograms, startProgram } from '../server/started.ts'
import { runEnded } from '../services/opened.ts'
import { documentsOf, run } from './espalier.ts'

const fixture = (name: string) => join(import.meta.dirname, '../fixtures/reference', `${name}-windows.json`)
const data = { source: fixture('test'), sequenceLength: 256, windows: 4 }

const folder = scratchFolder('broke')
let remote: Awaited<ReturnType<typeof connectWorkbench>>
let model: string
let experiment: string
/** The dense run, and ShortGPT at two sparsities. */
let runs: string[]

beforeAll(async () => {
  remote = await connectWorkbench(await startProgram(join(folder, 'data')))
  model = await referenceModel('stories260k')
  const { id } = await remote.call('models.add', { path: model })
  const made = await remote.call('experiments.create', {
    name: 'Looked at by a script',
    grid: {
      models: [id],
      methods: [{ method: 'shortgpt' }],
      amounts: [{ sparsity: 0.2 }, { sparsity: 0.4 }],
      calibration: { ...data, source: fixture('calibration') },
      measures: [{ kind: 'tasks', tasks: ['piqa'], limit: 40, folder: join(import.meta.dirname, '../../resources/questions') }],
    },
  })
  experiment = made.experiment.id
  runs = made.runs.map((one) => one.id)
  await ended(...runs)
})

afterAll(async () => {
  await remote?.close()
  killPrograms()
  vi.restoreAllMocks()
})

async function ended(...ids: string[]): Promise<Output<'runs.get'>[]> {
  const found = await Promise.all(ids.map((id) => runEnded(remote, id)))
  expect(found.map(({ problem }) => problem)).toEqual(ids.map(() => null))
  return found
}

/** What a command prints about the server's data folder. */
async function printedBy(command: keyof typeof commands, ...words: string[]): Promise<string> {
  let out = ''
  const take = (text: unknown) => {
    out += `${text}\n`
    return true
  }
  const spies = [vi.spyOn(console, 'log').mockImplementation(take), vi.spyOn(process.stdout, 'write').mockImplementation(take)]
  const code = await commands[command]([...words, '--data', join(folder, 'data')])
  for (const spy of spies) spy.mockRestore()
  expect(code).toBe(0)
  return out
}

test('--evaluate_divergence prints the numbers that the same question has over HTTP', async () => {
  const flags = ['--model', model, '--pruning_method=shortgpt', '--sparsity=0.4', '--evaluate_divergence', '--divergence_tokens=1024']
  const texts = [
    `--calibration_data=${fixture('calibration')}`,
    '--calibration_samples=4',
    `--eval_data=${data.source}`,
    '--sequence_length=256',
  ]
  const finished = await run(folder, [...flags, ...texts, '--json', '--no_history'])
  const [document] = documentsOf(finished)
  expect(runDocument.safeParse(document).error).toBeUndefined()
  const { id } = await remote.call('runs.inspect', { inspect: { kind: 'divergence', runs: [runs[2] ?? ''], data } })
  const [looked] = await ended(id)
  const divergence = looked?.inspected?.kind === 'divergence' ? looked.inspected.divergence : undefined
  const [own] = divergence?.runs ?? []
  expect(document?.plan).toEqual((await remote.call('runs.get', { id: runs[2] ?? '' })).plan)
  expect(document?.divergence).toEqual({
    data: divergence?.data,
    tokens: 4 * 255,
    dense: divergence?.dense,
    numbers: own?.numbers,
    groups: own?.groups,
    blocks: own?.blocks,
    worst: own?.worst,
  })
  expect(own?.numbers.mean.value).toBeGreaterThan(0.1)
  const page = await remote.call('runs.tokens', { id, page: 0 })
  expect(page?.texts).toHaveLength(256)
})

test('--evaluate_divergence prints a table for people, and is refused where nothing is pruned', async () => {
  const flags = ['--model', model, `--eval_data=${data.source}`, '--sequence_length=256', '--no_history', '--evaluate_divergence']
  const pruning = ['--pruning_method=shortgpt', '--sparsity=0.4', `--calibration_data=${fixture('calibration')}`, '--calibration_samples=4']
  const { stdout, code } = await run(folder, [...flags, ...pruning, '--divergence_tokens=512'])
  expect(code).toBe(0)
  expect(stdout).toMatch(/Divergence from the dense model, in nats\nrun +tokens +mean KL +± .* same top .* largest/)
  const refused = await run(folder, [...flags, '--dense'])
  expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('give a --pruning_method')])
})

test('espalier questions prints the result of the call', async () => {
  const [first = '', , second = ''] = runs
  const found = questionComparison.parse(JSON.parse(await printedBy('questions', first, second, '--json', '--limit', '5')))
  expect(found).toEqual(await remote.call('compare.questions', { first, second, limit: 5 }))
  expect(await printedBy('questions', first, second)).toMatch(/^TASK +MEASURE +QUESTIONS .*\npiqa +accuracy +40 /)
})

test('espalier answer lets runs answer, judge exports what was voted over HTTP, and the report holds both', async () => {
  const prompts = join(folder, 'prompts.txt')
  await writeFile(prompts, 'Once upon a time #early\nThe dog #late\n')
  const asked = ['--prompts', prompts, '--tokens', '6', '--wait']
  const answers = JSON.parse(await printedBy('answer', ...runs.slice(1), ...asked, '--json'))
  const kept = transcript.parse(answers.transcript)
  expect(kept.answers).toHaveLength(6)
  expect(kept).toEqual(await remote.call('transcripts.get', { id: kept.id }))
  expect(answers.columns.map(({ equal }: { equal: number | null }) => equal)).toEqual([null, expect.any(Number), expect.any(Number)])
  // Without --wait, the work is left to the server, which may have begun it already.
  expect(await printedBy('answer', runs[1] ?? '', '--prompts', prompts, '--tokens', '6', '--seed', '0')).toMatch(/^ID +STATUS/)
  expect(await printedBy('answer', runs[1] ?? '', '--without_dense', ...asked)).toMatch(
    /^MODEL +TOKENS .*\n.* 6 +- .*\n\n> Once upon a time\n/,
  )

  let state = await remote.call('judgings.start', { transcript: kept.id, seed: 1 })
  for (const vote of ['left', 'tie', 'right'] as const) {
    state = await remote.call('judgings.vote', { id: state.id, pair: state.next?.pair ?? 0, vote })
  }
  const exported = await remote.call('judgings.export', { id: state.id, format: 'json' })
  const printed = JSON.parse(await printedBy('judge', 'export', state.id))
  expect(printed).toEqual(JSON.parse(exported.content))
  const result = judgingResult.parse(JSON.parse(await printedBy('judge', 'show', state.id, '--json')))
  expect(result).toEqual(await remote.call('judgings.result', { id: state.id }))
  expect(result.list).toHaveLength(3)
  const table = await printedBy('judge', 'export', state.id, '--format', 'csv')
  expect(table.trim().split(/\r?\n/)).toHaveLength(4)
  expect(JSON.parse(await printedBy('judge', 'list', '--json'))).toMatchObject([{ id: state.id, votes: 3 }])

  const file = join(folder, 'report.html')
  await printedBy('report', experiment, '--output', file)
  const html = await readFile(file, 'utf8')
  for (const word of ['Looked at by a script', 'Once upon a time', 'How to repeat it', 'Questions that flipped'])
    expect(html).toContain(word)
  expect(html).not.toMatch(/(src|href)="(?!#|data:)/)
  for (const path of [folder, model, fixture('calibration'), import.meta.dirname]) expect(html).not.toContain(path)
  expect(html).toContain('--model=')
  expect(await printedBy('report', experiment, '--paths')).toContain(model)
  const markdown = JSON.parse(await printedBy('report', experiment, '--format', 'markdown', '--json'))
  expect(markdown).toEqual({ ...(await remote.call('reports.make', { experiment, format: 'markdown' })), content: expect.any(String) })
  expect(markdown.content).toContain('# Looked at by a script')
})

test.each([
  ['judge', ['export', 'judging-none'], 1, 'There is no judging judging-none'],
  ['judge', ['export', 'judging-none', '--format', 'pdf'], 2, 'Choose json or csv'],
  ['report', ['exp-none'], 1, 'exp-none'],
  ['report', ['exp-none', '--format', 'pdf'], 2, 'Choose html or markdown'],
  ['answer', ['run-none', '--prompts', '/nowhere.txt'], 2, 'does not exist'],
  ['answer', ['run-none'], 2, '--prompts is missing'],
  ['answer', ['run-none', '--prompts', '/nowhere.txt', '--temperature='], 2, '--temperature is ""'],
  ['questions', ['run-none'], 2, 'The ids of two runs'],
] as const)('espalier %s %j is refused with a sentence', async (command, words, code, sentence) => {
  let reported = ''
  const spy = vi.spyOn(console, 'error').mockImplementation((text: string) => {
    reported += text
  })
  expect(await commands[command]([...words, '--data', join(folder, 'data')])).toBe(code)
  spy.mockRestore()
  expect(reported).toContain(sentence)
})
