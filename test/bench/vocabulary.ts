import { appendFileSync, existsSync, readFileSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { beginChoice } from '#contract/data/begin-token.ts'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import type { MeasureRequest, RunRequest } from '#contract/runs/run-request.ts'
import { bundledTitles, type WeightType } from '#contract/titles.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { openModel } from '#engine/model/model.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { folderSteps } from './folder-runs/folder-steps.ts'

/**
 * What rows of the vocabulary cost, beside files of the same size that were made in other ways: `npm run bench -- vocabulary MODEL FOLDER
 * --rank TEXT,TEXT --rows N,N [--texts NAME=TEXT,...] [--type TYPE] [--rivals] [--recover TOKENS] [--begin always] [--windows N] [--ranked N]
 * [--speed]`. All of the ranking texts is counted, or with `--ranked` as many windows, in equal parts of each text.
 *
 * Each line of JSON is one model: sizes of its files in Q8_0 and in `--type`, and bits per byte of the latter on each text. With `--rivals`,
 * each number of rows is followed by the dense model in mixed types of the same size, and by 2SSP in the same type at the same size, repaired
 * and recovered. `--speed` adds tokens per second in llama.cpp, which needs a quiet machine. FOLDER keeps steps and results, so a killed
 * measurement resumes.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rank: { type: 'string', default: 'mixed' },
    rows: { type: 'string', default: '' },
    texts: { type: 'string', default: 'prose=prose,code=code,spanish=spanish' },
    type: { type: 'string', default: 'Q4_K_M' },
    rivals: { type: 'boolean', default: false },
    recover: { type: 'string', default: '0' },
    begin: { type: 'string', default: 'auto' },
    windows: { type: 'string', default: '4' },
    ranked: { type: 'string', default: '' },
    tokens: { type: 'string', default: '512' },
    speed: { type: 'boolean', default: false },
  },
})
const [path, folder] = positionals
if (!path || !folder) throw new EspalierError('usage', 'Give a model and a folder for the steps.')

const [type, sequenceLength] = [values.type as WeightType, Number(values.tokens)]
const place = (text: string) => (Object.hasOwn(bundledTitles, text) ? text : resolve(text))
const shareOf = (source: string) => (values.ranked === '' && existsSync(source) ? statSync(source).size : 1)
const ranking = values.rank.split(',').map((text) => ({ source: place(text), share: shareOf(place(text)) }))
const calibration = { source: ranking.map(({ source }) => basename(source)).join(' and '), mix: ranking, sequenceLength }
const measures: MeasureRequest[] = values.texts.split(',').map((one) => {
  const [name = '', text = name] = one.split('=')
  return { kind: 'perplexity', name, data: { source: place(text), sequenceLength, windows: Number(values.windows) } }
})
if (values.speed) measures.push({ kind: 'inference', sequenceLength: Math.min(512, sequenceLength), repeats: 5 })

let phase = ''
const host = {
  steps: folderSteps(join(folder, 'steps')),
  signal: new AbortController().signal,
  emit(event: { type: string; progress?: { phase: string } }) {
    if (event.type !== 'progress' || event.progress?.phase === phase) return
    phase = event.progress?.phase ?? ''
    process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${phase}\n`)
  },
}

const results = join(folder, 'results.jsonl')
const known = existsSync(results)
  ? readFileSync(results, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { name: string; bytes: number; problem?: string })
  : []

/** Measures one run, or says why it cannot be made. Returns the bytes of its file. */
async function measure(name: string, changes: Partial<RunRequest>): Promise<number> {
  const found = known.find((one) => one.name === name)
  if (found) return found.bytes
  process.stderr.write(`${name}\n`)
  const request: RunRequest = {
    model: path as string,
    method: 'dense',
    amount: { sparsity: 0 },
    options: {},
    seed: 0,
    calibration,
    weights: type,
    measures,
    backend: 'auto',
    precision: 'auto',
    beginToken: beginChoice.parse(values.begin),
    ...changes,
  }
  const line = await executeRun(request, host).then(
    (document) => lineOf(name, document),
    (thrown: unknown) => {
      const { code, message } = toErrorMessage(thrown)
      if (code !== 'infeasible') throw thrown
      return { name, bytes: 0, problem: message }
    },
  )
  appendFileSync(results, `${JSON.stringify(line)}\n`)
  console.log(JSON.stringify(line))
  return line.bytes
}

async function lineOf(name: string, { measures: taken, plan, sparsity, notes }: RunDocument) {
  const model = await openModel(path as string)
  const inQ8 = await gguf.fileBytes({ model, plan: { ...plan, types: undefined }, method: '' }, 'Q8_0').finally(() => model.close())
  const of = (kind: string) =>
    taken.filter(({ name: own }) => own === kind).map(({ dataset, value }) => [dataset, Number(value.toFixed(4))])
  return {
    name,
    bytes: taken.find(({ name: own }) => own === 'size')?.value as number,
    inQ8,
    parameters: taken.find(({ name: own }) => own === 'parameters')?.value,
    reached: sparsity.reached,
    bits: Object.fromEntries(of('bits per byte')),
    speed: taken.filter(({ unit }) => unit === 'tokens/s').map(({ name: own, dataset, value }) => ({ name: own, dataset, value })),
    notes: notes.filter((note) => /cover|removed/.test(note)),
  }
}

await measure('dense', {})
for (const rows of values.rows.split(',').filter(Boolean).map(Number)) {
  const bytes = await measure(`${rows} rows`, {
    method: 'vocabulary',
    options: { rows, ...(values.ranked === '' ? {} : { windows: Number(values.ranked) }) },
  })
  if (!values.rivals) continue
  await measure(`dense, mixed types of the size of ${rows} rows`, { weights: `MIXED:${bytes}` })
  const text = { ...calibration, sequenceLength }
  const tokens = Number(values.recover)
  // SOURCE copies blocks, so it cannot store narrower MLPs.
  const narrower = type === 'SOURCE' ? 'Q4_K_M' : type
  await measure(`2SSP in ${narrower} of the size of ${rows} rows`, {
    method: '2ssp',
    options: { windows: 32 },
    weights: narrower,
    amount: { bytes, format: 'gguf', type: narrower },
    repair: { kind: 'in-order', calibration: { ...text, windows: 32 } },
    ...(tokens > 0 ? { recover: { amount: { tokens }, text } } : {}),
  })
}
