import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it, test, vi } from 'vitest'
import { runCommandLine } from '#cli/command-line.ts'
import { malformedCheckpoints, malformedModels, unusableModels } from '../engine/checkpoint/malformed.ts'
import { makeValidModel, writeModelFiles } from '../engine/checkpoint/valid-model.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { run } from './espalier.ts'

const home = scratchFolder('refusals')
beforeAll(async () => {
  await writeFile(
    join(home, 'windows.json'),
    JSON.stringify(Array.from({ length: 4 }, (_, i) => Array.from({ length: 16 }, (_, j) => (i * 37 + j * 11) % 500))),
  )
})

/** One line for a person and nothing else: no stack trace, no second message. */
function oneSentence(stderr: string): string {
  // The tensor library's start-up lines cannot be suppressed on a socket, which this test reads from.
  const lines = stderr
    .split('\n')
    .filter((line) => line && !/^(Stage|Perplexity|Reading|WARNING: All log messages before|I0000 )/.test(line))
  expect(lines, stderr).toHaveLength(1)
  expect(stderr).not.toMatch(/\n\s+at |node:internal/)
  return lines[0] ?? ''
}

/** One malformed example of each file in a checkpoint; the engine's tests use the whole of both lists. */
const ofEachKind = [...malformedCheckpoints, ...malformedModels].filter(({ name }) =>
  ['no config', 'a header that is not JSON', 'a missing shard', 'a tensor of another shape', 'offsets that overlap'].includes(name),
)

describe('a malformed model', () => {
  it.concurrent.each([...ofEachKind, ...unusableModels])('is refused with one clear error: $name', async ({ name, make, says }) => {
    const folder = join(home, name.replace(/\W+/g, '-'))
    await make(folder)
    const { code, stderr, stdout } = await run(home, [
      '--model',
      folder,
      '--pruning_method=2ssp',
      '--sparsity=0.3',
      '--calibration_data=windows.json',
      '--eval_data=windows.json',
      '--sequence_length=16',
      '--no_history',
    ])
    expect(code, stderr).toBe(1)
    expect(stdout).toBe('')
    expect(oneSentence(stderr)).toMatch(says)
  })
})

test('the same malformed model ends other commands with the same code', async () => {
  const folder = join(home, 'malformed-everywhere')
  await ofEachKind[0]?.make(folder)
  const data = ['--data', join(home, 'data of codes')]
  const commands = [
    ['--model', folder, '--dense', '--evaluate_perplexity', '--no_history'],
    ['models', 'add', folder, ...data],
  ]
  for (const command of commands) expect((await run(home, command)).code, command.join(' ')).toBe(1)
})

describe('wrong usage', () => {
  const wrong: [string, string[], RegExp][] = [
    ['no model', ['--dense'], /--model is missing/],
    ['a flag that is near another', ['--model=sample', '--sparsty=0.5'], /Unknown flag --sparsty.*Did you mean --sparsity/],
    ['a stray word', ['--model=sample', 'dense'], /"dense" is neither a command/],
    ['an unknown command', ['prune'], /Unknown command "prune"/],
    ['nothing to do', ['--model=sample'], /Nothing to do/],
    ['an unknown method', ['--model=sample', '--pruning_method=wanda', '--sparsity=0.5'], /is "wanda"; it must be one of.*2ssp/],
    ['a method without an amount', ['--model=sample', '--pruning_method=2ssp'], /needs an amount/],
    ['an amount without a method', ['--model=sample', '--dense', '--num_prune=2'], /no --pruning_method/],
    ['two amounts', ['--model=sample', '--pruning_method=2ssp', '--num_prune=2', '--sparsity=0.5'], /give one of them/],
    ['a sparsity above 1', ['--model=sample', '--pruning_method=2ssp', '--sparsity=1.5'], /--sparsity is "1.5".*from 0 to 1/],
    ['blocks that are no number', ['--model=sample', '--pruning_method=2ssp', '--num_prune=two'], /--num_prune is "two"/],
    ['alpha without 2ssp', ['--model=sample', '--pruning_method=shortgpt', '--num_prune=2', '--alpha=2'], /--alpha belongs to 2ssp/],
    ['a format without a folder', ['--model=sample', '--dense', '--format=stock'], /--format is the format that --save writes/],
    [
      'an unknown format',
      ['--model=sample', '--pruning_method=2ssp', '--sparsity=0.5', '--save=x', '--format=onnx'],
      /is "onnx"; it must be one of .*stock/,
    ],
    ['an unknown ablation', ['--model=sample', '--ablation=dropout'], /is "dropout"; it must be one of .*one_stage/],
    ['an ablation of another method', ['--model=sample', '--pruning_method=shortgpt', '--ablation=l1_norm'], /--ablation studies 2ssp/],
    ['an unknown backend', ['--model=sample', '--dense', '--backend=cuda'], /--backend is "cuda".*tensorflow/],
    ['a memory that is no size', ['--model=sample', '--dense', '--memory=lots'], /--memory is "lots"/],
    ['an unknown task', ['--model=sample', '--dense', '--tasks=boolq'], /--tasks is "boolq"; it must be one of .*winogrande/],
    ['an option without a value', ['--model=sample', '--pruning_method=2ssp', '--sparsity=0.5', '--option=alpha'], /must be NAME=VALUE/],
    ['a log level that there is not', ['--model=sample', '--dense', '--logging=LOUD'], /--logging is "LOUD"/],
    ['an unknown method to describe', ['methods', 'magnitude'], /Unknown method "magnitude"/],
  ]

  const checkedLater: typeof wrong = [
    ['saving several plans', ['--model=sample', '--pruning_method=2ssp', '--sparsity=0.25,0.5', '--save=x'], /--save needs one plan/],
    [
      'an unknown option',
      ['--model=sample', '--pruning_method=2ssp', '--sparsity=0.5', '--option=beta=2', '--no_history'],
      /2SSP has no option "beta". It has: alpha/,
    ],
    ['data that is not there', ['--model=sample', '--dense', '--eval_data=nowhere.txt'], /no such file or folder/],
  ]

  it.each(wrong)('is answered with exit code 2 and a sentence that helps: %s', async (_name, arguments_, expected) => {
    let printed = ''
    const spy = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      printed += String(text)
      return true
    })
    const code = await runCommandLine(arguments_).finally(() => spy.mockRestore())
    expect(code, printed).toBe(2)
    expect(oneSentence(printed)).toMatch(expected)
  })

  // These get as far as opening a workbench, so the process still has to end.
  it.concurrent.each(checkedLater)('is answered with exit code 2 and a sentence that helps: %s', async (_name, arguments_, expected) => {
    const { code, stderr } = await run(home, arguments_)
    expect(code, stderr).toBe(2)
    expect(oneSentence(stderr)).toMatch(expected)
  })

  it('prints help and version, and methods with their options as text and JSON', async () => {
    const help = await run(home, ['--help'])
    expect(help.code).toBe(0)
    for (const word of ['--pruning_method', '--num_prune', 'Examples', 'Exit codes']) expect(help.stdout).toContain(word)
    expect((await run(home, ['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    const methods = JSON.parse((await run(home, ['methods', '--json'])).stdout) as {
      id: string
      paper: string
      options: { name: string }[]
    }[]
    expect(methods.find(({ id }) => id === '2ssp')).toMatchObject({
      paper: '2501.17771',
      options: expect.arrayContaining([expect.objectContaining({ name: 'alpha', default: 1.5 })]),
    })
    expect((await run(home, ['methods', 'gates'])).stdout).toMatch(/\(our own, based on arXiv 2510\.18030\).*--option windows=/s)
  })

  it('fails with the feasible range when a sparsity cannot be reached', async () => {
    const folder = join(home, 'valid')
    await writeModelFiles(folder, makeValidModel())
    const { code, stderr } = await run(home, [
      '--model',
      folder,
      '--pruning_method=2ssp',
      '--sparsity=0.999',
      '--calibration_data=windows.json',
      '--sequence_length=16',
      '--no_history',
    ])
    expect(code).toBe(1)
    expect(oneSentence(stderr)).toMatch(/0\.999 is out of reach.*at most/)
  })
})

describe.skipIf(process.platform !== 'linux')('a place that cannot be written', () => {
  const wanted = ['--model=sample', '--dense', '--evaluate_perplexity']
  it.each([
    ['--output in what the system shows as files', ['--output=/proc/x'], /is in the pseudo file system \/proc/],
    [
      '--save in what the system shows as files',
      ['--pruning_method=shortgpt', '--sparsity=0.25', '--save=/proc/x'],
      /is in the pseudo file system \/proc/,
    ],
    ['--output through a file', ['--output=/etc/hostname/x'], /is a file, not a folder/],
    ['--output that is too long', [`--output=${'x'.repeat(300)}`], /longer than this system allows/],
  ])('%s is refused at once, in one sentence', async (_what, flags, says) => {
    const { code, stderr, stdout } = await run(home, [
      ...wanted.filter((flag) => flag !== '--dense' || !flags[0]?.startsWith('--pruning')),
      ...flags,
    ])
    expect(code, stderr).not.toBe(0)
    expect(stdout).toBe('')
    expect(oneSentence(stderr)).toMatch(says)
  })
})

test('a list of runs in a data folder that was never used says nothing of the sample model', async () => {
  const { code, stdout, stderr } = await run(await mkdtemp(join(tmpdir(), 'espalier-fresh-')), ['runs', 'list'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: expect.not.stringContaining('could not be added') })
  expect(stdout).toBeDefined()
})
