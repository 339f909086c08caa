import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { toErrorMessage } from '#contract/errors.ts'
import { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { findFormat, formats } from '#engine/export/index.ts'
import { hasUnreadWindows } from '#engine/llama/bench-files.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, type ModelView, openView } from '#engine/model/views/view.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { ggmlVersion } from '../../src-main/runtime/ggml.mjs'
import { logitsOf, relativeError } from '../engine/model/logits.ts'
import { referenceWindows } from '../fixtures/reference.ts'
import { hostIn } from '../fixtures/run-host.ts'
import { type Bounds, exactBounds, ggufBounds, type InteropMethod, type InteropModel } from './cases.ts'
import type { Worker } from './environment.ts'
import type { Llama, LlamaAnswer } from './llama.ts'
import type { Table } from './table.ts'

interface Case {
  readonly transformers: Worker
  readonly llama: Llama
  readonly model: InteropModel
  readonly method: InteropMethod
  readonly folder: string
}

/** This program's answers, and the questions for the others. */
interface Expected {
  readonly windows: readonly Int32Array[]
  readonly perplexity: number
  readonly logits: readonly number[]
  readonly prompt: readonly number[]
  readonly greedy: readonly number[]
  readonly ids: readonly (readonly number[])[] | undefined
  readonly comparesGreedy: boolean
}

export interface Answer {
  readonly perplexity: number
  readonly greedy: readonly number[]
  readonly ids?: readonly (readonly number[])[]
  readonly strange?: readonly string[]
  readonly error?: string
}

const answerLength = 8

/** Prunes a model, saves it in every suitable format, and compares the answers of other programs with ours. */
export async function checkPruned(asked: Case, table: Table): Promise<void> {
  const { model: interop, method, folder } = asked
  table.title(`${interop.name}, ${method.method}${method.recovers ? ', recovered' : ''}`)
  await mkdir(folder, { recursive: true })
  const path = await interop.folder()
  const { plan } = await prune(path, method, folder)
  const model = await openModel(path)
  const view = await openView(model, plan)
  const expected = await answers(view, path, interop)
  view.dispose()
  const tensors = plan?.tensors && { tensors: await StoredTensors.open(plan.tensors) }
  const request = { model, plan, method: method.method, ...tensors }
  for (const format of Object.keys(formats).filter((id) => id !== 'gguf')) {
    const target = join(folder, format)
    const refusal = await refusalOf(() => findFormat(format).write({ ...request, folder: target }))
    if (refusal) table.note(format, refusal)
  }
  await checkTransformers(asked, expected, table)
  for (const type of interop.types ?? method.types ?? Object.keys(ggufBounds)) {
    const target = join(folder, `gguf-${type}`)
    const refusal = await refusalOf(() => findFormat('gguf').write({ ...request, folder: target, ggufTypes: [type] }))
    if (refusal) table.note(`gguf ${type}`, refusal)
    else await checkGguf(asked, type, target, expected, table)
  }
  await model.close()
}

export async function prune(path: string, { method, amount, options, recovers }: InteropMethod, folder: string) {
  const source = join(folder, 'calibration.json')
  await writeFile(source, JSON.stringify((await referenceWindows('calibration')).slice(0, 4).map((window) => [...window.subarray(0, 128)])))
  const calibration = { source, sequenceLength: 128, windows: 4 }
  const request = { model: path, method, amount, options, seed: 0, calibration, measures: [], backend: 'tensorflow' as const }
  const text = { source: 'mixed', sequenceLength: 128 }
  const recover = recovers ? { recover: { amount: { tokens: recovers }, text } } : {}
  const document = await executeRun({ ...request, ...recover }, hostIn(folder))
  if (recovers && !document.plan?.finalNorm) throw new Error(`The recovery of ${method} took no weights, so there is nothing to try.`)
  return document
}

export async function refusalOf(write: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await write()
    return undefined
  } catch (error) {
    const { code, message } = toErrorMessage(error)
    if (code !== 'infeasible') throw error
    return message
  }
}

export async function answers(
  view: ModelView,
  path: string,
  { length, texts, greedy: comparesGreedy = true }: InteropModel,
): Promise<Expected> {
  const windows = (await referenceWindows('test')).slice(0, 2).map((window) => window.slice(0, length))
  const prompt = [...(windows[0] as Int32Array).subarray(0, 12)]
  const tokenizer = texts && (await openTokenizer(path))
  return {
    windows,
    perplexity: (await perplexity(view, windows)).perplexity,
    logits: (await logitsOf(view, windows[0] as Int32Array)).flat(),
    prompt,
    comparesGreedy,
    greedy: await greedy(view, prompt),
    ids: texts?.map((text) => tokenizer?.encode(text) ?? []),
  }
}

async function greedy(view: ModelView, prompt: readonly number[]): Promise<number[]> {
  const ids = [...prompt]
  while (ids.length < prompt.length + answerLength) {
    const last = (await logitsOf(view, Int32Array.from(ids))).at(-1) ?? []
    ids.push(last.indexOf(Math.max(...last)))
  }
  return ids.slice(prompt.length)
}

/** Formats that transformers opens, and which of them need the code in the folder. */
const forTransformers: Readonly<Record<string, { readonly trust: boolean }>> = { stock: { trust: false }, exact: { trust: true } }

async function checkTransformers({ transformers, model, folder }: Case, expected: Expected, table: Table): Promise<void> {
  const question = questionOf(expected, model)
  for (const name of (await readdir(folder))
    .filter((one) => one in forTransformers && !(model.mixture && forTransformers[one]?.trust))
    .sort()) {
    const job = { ...question, folder: join(folder, name), logits: join(folder, `${name}.f32`) }
    const answer = await transformers.ask<Answer>({ ...job, trust: forTransformers[name]?.trust })
    const problem = answer.error ?? answer.strange?.join('; ')
    if (problem) table.state(`${name} in transformers`, problem)
    else {
      const bytes = await readFile(job.logits)
      const logits = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
      const bounds = model.inTransformers ?? exactBounds
      compare(`${name} in transformers`, { ...answer, logits }, expected, { bounds, sameKind: true }, table)
    }
    if (!forTransformers[name]?.trust) continue
    const distrusted = await transformers.ask<Answer>({ ...job, trust: false })
    table.state(`${name} without trust_remote_code`, distrusted.error === undefined ? 'opened, which it must not' : undefined)
  }
}

export const questionOf = (expected: Expected, { texts }: InteropModel) => ({
  windows: expected.windows.map((window) => [...window]),
  prompt: expected.prompt,
  tokens: answerLength,
  ...(texts ? { texts } : {}),
})

interface Place {
  readonly bounds: Bounds
  /** Whether both sides compute in float32 and so must answer with the same words. */
  readonly sameKind: boolean
}

/** Perplexity, logits, greedy answer and token ids of another program against ours. */
export function compare(
  what: string,
  answer: Pick<LlamaAnswer, 'perplexity' | 'greedy'> & { readonly logits?: LlamaAnswer['logits']; readonly ids?: Answer['ids'] },
  expected: Expected,
  { bounds, sameKind }: Place,
  table: Table,
): void {
  const same = answer.greedy.join() === expected.greedy.join()
  table.add(what, Math.abs(answer.perplexity / expected.perplexity - 1), bounds.perplexity, same ? 'greedy equal' : '')
  if (answer.logits) table.add(`${what}: logits`, relativeError(Array.from(answer.logits), expected.logits), bounds.logits)
  // Two tokens that are almost equally likely may come out either way.
  if (sameKind && expected.comparesGreedy)
    table.state(`${what}: greedy`, same ? undefined : `${answer.greedy.join()} instead of ${expected.greedy.join()}`)
  if (expected.ids) table.state(`${what}: token ids`, JSON.stringify(answer.ids) === JSON.stringify(expected.ids) ? undefined : 'differ')
}

/** A GGUF file in llama.cpp: in float32 against the pruned model, in other types against this program with the same file. */
async function checkGguf({ llama, model }: Case, type: string, target: string, expected: Expected, table: Table): Promise<void> {
  const file = join(target, (await readdir(target)).find((name) => name.endsWith('.gguf')) ?? '')
  const { windows, prompt } = expected
  const question = { file, windows, prompt, tokens: answerLength, ...(model.texts ? { texts: model.texts } : {}) }
  // Lets llama.cpp compute at the same time as this program.
  const asked = llama.ask(question).catch((error: Error) => ({ error: error.message }))
  const reopened = await openModel(file)
  const own = type === 'F32' ? expected : { ...expected, ...(await reopenedAnswers(reopened, expected)) }
  const again = type === 'F32' ? (await perplexity(denseView(reopened), [...expected.windows])).perplexity : own.perplexity
  await reopened.close()
  const { spec } = reopened
  if (type === 'F32') table.add('gguf F32 reopened here', Math.abs(again / expected.perplexity - 1), 1e-6)
  const answer = await asked
  if ('error' in answer) return table.state(`gguf ${type} in llama.cpp`, answer.error)
  if (hasUnreadWindows(spec)) return table.note(`gguf ${type} in llama.cpp`, `ggml ${ggmlVersion} assumes the family's order of windows.`)
  const bounds = boundsOf(model, type)
  compare(`gguf ${type} in llama.cpp`, answer, own, { bounds, sameKind: bounds === exactBounds }, table)
}

/** A family's own arithmetic may be coarser than what a type explains. */
function boundsOf({ bounds: own }: InteropModel, type: string): Bounds {
  const bounds = ggufBounds[type] ?? exactBounds
  if (!own) return bounds
  return { perplexity: Math.max(own.perplexity, bounds.perplexity), logits: Math.max(own.logits, bounds.logits) }
}

async function reopenedAnswers(model: Model, { windows }: Expected) {
  const view = denseView(model)
  return { perplexity: (await perplexity(view, [...windows])).perplexity, logits: (await logitsOf(view, windows[0] as Int32Array)).flat() }
}
