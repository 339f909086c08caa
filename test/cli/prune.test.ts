import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { type RunDocument, runDocument } from '#contract/runs/run.ts'
import { expectedOf, referenceModel, referenceWindows } from '../fixtures/reference.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { documentsOf, run, start } from './espalier.ts'

const questions = join(import.meta.dirname, '../../resources/questions')
const home = scratchFolder('cli')
let model: string
let data: string[]
/** Calibration windows and a test text, for tests that compare nothing recorded. */
let few: string[]
let shortTest: string
beforeAll(async () => {
  model = await referenceModel('stories260k')
  for (const name of ['calibration', 'test'] as const) {
    await writeFile(join(home, `${name}.json`), JSON.stringify((await referenceWindows(name)).map((window) => Array.from(window))))
  }
  shortTest = join(home, 'short-test.json')
  await writeFile(shortTest, JSON.stringify((await referenceWindows('test')).slice(0, 2).map((window) => Array.from(window))))
  data = [`--calibration_data=${join(home, 'calibration.json')}`, '--sequence_length=256']
  few = [...data, '--calibration_samples=4']
})

describe('the pruning command', () => {
  it('prints one document for one sparsity, whose plan and measures are the recorded ones, and opens what it saved with the same perplexity', async () => {
    const recorded = (await expectedOf<{ '2ssp': { rate: number; kept_neurons: number[][]; ppl_test_f64: number }[] }>('stories260k'))[
      '2ssp'
    ].find(({ rate }) => rate === 0.5)
    const folder = join(home, 'saved')
    const measured = [`--eval_data=${shortTest}`, '--json']
    const saving = [`--save=${folder}`, '--format=exact,stock']
    const [document] = documentsOf(
      await run(home, [
        '--model',
        model,
        '--pruning-method=2ssp',
        '--sparsity',
        '0.5',
        ...data,
        `--eval_data=${join(home, 'test.json')}`,
        ...measured,
        ...saving,
      ]),
    )
    expect(runDocument.safeParse(document).error).toBeUndefined()
    expect(document?.plan.blocks.map(({ mlp }) => (mlp === 'removed' ? [] : mlp.kept))).toEqual(recorded?.kept_neurons)
    const perplexityOf = (one: typeof document, text: string) =>
      one?.measures.find(({ name, dataset }) => name === 'perplexity' && dataset === text)?.value ?? Number.NaN
    expect(Math.abs(perplexityOf(document, 'test.json') / (recorded?.ppl_test_f64 ?? 1) - 1)).toBeLessThan(1e-5)
    expect(document?.sparsity.nominal).toBe(0.5)
    expect(document?.decisions[0]?.scores).toHaveLength(5)
    for (const format of ['exact', 'stock']) {
      const saved = join(folder, format)
      const [reopened] = documentsOf(await run(home, ['--model', saved, '--dense', '--sequence_length=256', ...measured, '--no_history']))
      const [before, after] = [document, reopened].map((one) => perplexityOf(one, 'short-test.json')) as [number, number]
      expect(Math.abs(after / before - 1), format).toBeLessThan(1e-6)
      expect(existsSync(join(saved, 'tokenizer.json'))).toBe(true)
    }
  })

  it('prints an array for several sparsities, without an unrequested baseline', async () => {
    const documents = documentsOf(
      await run(home, ['--model', model, '--pruning_method=2ssp', '--num_prune=-2', ...few, '--json', '--no-history']),
    )
    expect(documents.map(({ sparsity }) => sparsity.nominal)).toEqual([0.4, 0.6])
  })

  it('sweeps all sizes with -1 and leaves out what cannot be reached', async () => {
    const { stdout, code } = await run(home, ['--model', model, '--pruning_method=2ssp', '--num-prune', '-1', ...few, '--no_history'])
    expect(code).toBe(0)
    expect(stdout.match(/^2ssp {2}/gm)).toHaveLength(3)
  })

  it('accepts an amount as the later reference does, alpha, options, a seed and a memory budget, and states them in the document', async () => {
    const [document] = documentsOf(
      await run(home, [
        '--model',
        model,
        '--pruning_method=2ssp',
        '--sparsity_rate=0.5',
        '--alpha=3',
        '--option=norm=1',
        '--seed=7',
        '--memory=1GB',
        '--logging=INFO',
        '--calibration-samples=4',
        ...data,
        '--json',
        '--no_history',
      ]),
    )
    expect(document?.sparsity.nominal).toBe(0.5)
    expect(document?.options).toMatchObject({ alpha: 3, norm: 1, windows: 32 })
    expect(document?.seed).toBe(7)
    expect(document?.notes.join(' ') ?? '').toBe('')
  })

  it('saves the dense model too, with errors weighed by its importances, and writes the table as CSV and LaTeX', async () => {
    const [folder, output] = [join(home, 'saved-dense'), join(home, 'tables')]
    const saving = ['--save', folder, '--format=gguf', '--gguf_type=Q4_K_M,Q8_0', `--output=${output}`]
    const measured = ['--sequence_length=64', `--eval_data=${shortTest}`, '--no_history']
    const { code, stdout, stderr } = await run(home, ['--model', model, '--dense', ...saving, ...measured])
    expect({ code, stderr }).toMatchObject({ code: 0 })
    expect(stdout).toMatch(/GGUF file Q4_K_M: .* [kM]B; reopened: /)
    const names = (await readdir(folder)).sort()
    expect(names.filter((name) => /\.(gguf|imatrix)$/.test(name)).map((name) => name.replace(/^.*-dense/, ''))).toEqual([
      '-Q4_K_M.gguf',
      '-Q8_0.gguf',
      '.imatrix',
    ])
    expect((await readdir(output)).sort()).toEqual(['results.csv', 'results.json', 'results.tex'])
    expect(await readFile(join(output, 'results.tex'), 'utf8')).toContain('\\toprule')
  })

  it('answers the two prompts, measures inference and runs zero-shot tasks on questions in a folder, on ggml', async () => {
    const [document] = documentsOf(
      await run(home, [
        '--model',
        model,
        '--dense',
        '--sequence_length=64',
        '--evaluate_qualitative',
        '--evaluate_inference',
        '--tasks=winogrande,piqa',
        `--task_folder=${questions}`,
        '--task_limit=5',
        '--backend=ggml',
        '--json',
        '--no_history',
      ]),
    )
    expect(document?.backend).toBe('ggml-cpu')
    expect(document?.answers?.map(({ prompt }) => prompt)).toEqual(['Who is Albert Einstein?', 'The theory of relativity'])
    expect(document?.measures.map(({ name, dataset }) => `${name} ${dataset}`)).toContain('tokens per second decode')
    const accuracies = document?.measures.filter(({ name }) => name === 'accuracy')
    expect(accuracies?.map(({ dataset }) => dataset)).toEqual(['winogrande', 'piqa'])
    for (const { value, error } of accuracies ?? []) {
      expect(value).toBeGreaterThanOrEqual(0)
      expect(error).toBeGreaterThanOrEqual(0)
    }
  })

  it('prints the main table of questions in a folder', async () => {
    const downstream = ['--evaluate_downstream', `--task_folder=${questions}`, '--task_limit=1']
    const { stdout, stderr } = await run(home, ['--model', model, '--dense', ...downstream, '--no_history'])
    expect(stdout, stderr).toContain('mmlu')
  })

  // A data set that cannot be fetched: `check-request.test.ts`.
  it('says what to do when the hub cannot be reached for a model', async () => {
    const unreachable = { HF_ENDPOINT: 'http://127.0.0.1:9', HF_HUB_OFFLINE: '1' }
    const cache = `--cache_dir=${join(home, 'hub')}`
    const noModel = await run(home, ['--model=org/some-model', '--revision=v1', '--dense', cache, '--no_history'], unreachable)
    expect(noModel).toMatchObject({ code: 1, stderr: expect.stringMatching(/org\/some-model.*copy the folder/) })
  })

  it('prints an ablation, and saves its table and its plot', async () => {
    const output = join(home, 'ablations')
    const { code, stdout, stderr } = await run(home, [
      '--model',
      model,
      '--ablation=one_stage',
      '--option=windows=4',
      ...few,
      `--eval_data=${shortTest}`,
      `--output=${output}`,
    ])
    expect(code, stderr).toBe(0)
    expect(stdout).toContain('First stage only')
    expect(await readFile(join(output, 'one_stage.svg'), 'utf8')).toContain('</svg>')
    expect((await readFile(join(output, 'one_stage.csv'), 'utf8')).trim().split('\r\n')).toHaveLength(7)
  })

  it('reads local data sets instead of the hub’s, after the requested baseline', async () => {
    const { mkdir } = await import('node:fs/promises')
    for (const folder of ['wikitext-2', 'c4_train']) {
      await mkdir(join(home, 'data', folder), { recursive: true })
      await writeFile(join(home, 'data', folder, 'part.txt'), 'Once upon a time there was a little girl who loved to play. '.repeat(60))
    }
    const documents = documentsOf(
      await run(home, [
        '--model',
        model,
        '--dense',
        '--pruning_method=2ssp',
        '--num_prune=1',
        '--local_datasets',
        '--evaluate_perplexity',
        '--sequence_length=128',
        '--json',
        '--no_history',
      ]),
    )
    expect(documents.map(({ method }) => method)).toEqual(['dense', '2ssp'])
    for (const { measures } of documents) expect(measures.find(({ name }) => name === 'perplexity')?.dataset).toBe('WikiText-2 test')
    const missing = await run(home, ['--model', model, '--dense', '--local_datasets', '--main_table_results', '--no_history'])
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining(join('data', 'c4_val')) })
  })
})

describe('a command that was killed', () => {
  let asked: string[]
  let whole: RunDocument | undefined
  beforeAll(async () => {
    const from = ['--model', await referenceModel('mistral-tiny'), '--pruning_method=2ssp', '--sparsity=0.66']
    asked = [...from, '--option=stage2Windows=16', ...data, '--json']
    whole = documentsOf(await run(await mkdtemp(join(home, 'whole-')), [...asked, '--no_history']))[0]
  })

  it.each([['--no_history'], []])(
    'resumes from its steps to the identical plan %s',
    async (...extra) => {
      const command = [...asked, ...extra]
      const killed = await mkdtemp(join(home, 'killed-'))
      const { child, finished } = start(killed, command)
      child.stderr?.on('data', (chunk: Buffer) => {
        if (chunk.toString().includes('Stage 2')) child.kill('SIGKILL')
      })
      await finished
      const last = await run(killed, command)
      const [resumed] = documentsOf(last)
      expect(last.stderr).toContain('Resuming an earlier start')
      expect(resumed?.plan).toEqual(whole?.plan)
      expect(resumed?.decisions).toEqual(whole?.decisions)
    },
    240_000,
  )

  it('says with exit code 130 that it was interrupted', async () => {
    const { child, finished } = start(home, [
      '--model',
      await referenceModel('mistral-tiny'),
      '--pruning_method=2ssp',
      '--sparsity=0.6',
      '--option=stage2Windows=64',
      ...data,
    ])
    child.stderr?.on('data', (chunk: Buffer) => {
      if (chunk.toString().includes('Stage')) child.kill('SIGINT')
    })
    expect(await finished).toMatchObject({ code: 130, stderr: expect.stringContaining('resume from the last finished step') })
  })
})
