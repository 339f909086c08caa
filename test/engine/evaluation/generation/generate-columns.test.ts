import { afterAll, beforeAll, expect, test } from 'vitest'
import type { GenerationEvent } from '#contract/playground/generation.ts'
import { generationSettings } from '#contract/playground/generation-settings.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { answerPrompt } from '#engine/evaluation/generation/answer.ts'
import { answerWith, generateColumns } from '#engine/evaluation/generation/generate-columns.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { chooseTokens } from '#engine/tokenizer/kept-tokens.ts'
import { openTokenizerFiles, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { expectedOf, referenceModel } from '../../../fixtures/reference.ts'

let model: Model
let tokenizer: Tokenizer
beforeAll(async () => {
  await openBackend('auto')
  model = await openModel(await referenceModel('stories260k'))
  tokenizer = (await openModelTokenizer(model)) as Tokenizer
})
afterAll(() => model.close())

const answer = (text: string, stop: string[] = []) =>
  answerWith({
    request: {
      prompts: [{ text }],
      settings: { decoding: { kind: 'sampling', temperature: 0 }, template: 'raw', maxTokens: 12, seed: 0, alternatives: 5, stop } as never,
    },
    view: denseView(model),
    tokenizer,
    column: 0,
    prompt: 0,
    signal: new AbortController().signal,
  })

test('alternatives have the text that they would add, with the space before a word', async () => {
  const { tokens } = await answer('Once upon a time, there was')
  expect(tokens).toHaveLength(12)
  const ids = [1, ...tokenizer.encode('Once upon a time, there was')]
  for (const { id, text, alternatives } of tokens) {
    expect(alternatives.find((one) => one.id === id)?.text).toBe(text)
    for (const other of alternatives) {
      const whole = tokenizer.decode([...ids, other.id], { cleanUp: false })
      expect(other.text).toBe(whole.slice(tokenizer.decode(ids, { cleanUp: false }).length))
    }
    ids.push(id)
  }
  expect(tokens.flatMap(({ alternatives }) => alternatives).filter(({ text }) => text.startsWith(' ')).length).toBeGreaterThan(10)
})

test('the chosen token has one text, also while a stop text may have begun', async () => {
  const { text: whole } = await answer('Once upon a time, there was')
  const { tokens } = await answer('Once upon a time, there was', [`${whole.slice(0, 6)}#`])
  expect(tokens.some(({ text }) => text === '')).toBe(true)
  for (const { id, text, alternatives } of tokens) expect(alternatives.find((one) => one.id === id)?.text).toBe(text)
})

interface Recorded {
  readonly generation: {
    readonly dense: readonly { prompt: string; prompt_ids: number[]; greedy_ids: number[]; beam5: { ids: number[] } }[]
  }
}

test('a text is answered as by the reference, which begins it with the begin token', async () => {
  const [recorded] = (await expectedOf<Recorded>('stories260k')).generation.dense
  const { prompt = '', prompt_ids = [], greedy_ids = [], beam5 } = recorded ?? {}
  expect(prompt_ids[0]).toBe(tokenizer.prefixId)
  const { tokens } = await answer(prompt)
  expect(tokens.map(({ id }) => id)).toEqual(greedy_ids.slice(0, 12))
  expect(await answerPrompt(denseView(model), tokenizer, prompt, 128)).toBe(tokenizer.decode(beam5?.ids ?? [], { skipSpecial: true }))
})

test('token ids are answered as they are, and the begin token is no part of a scored text', async () => {
  const scored = async (prompt: { text: string; continueFrom?: number[] }) => {
    const found: { tokens: number; ids: number[] } = { tokens: 0, ids: [] }
    const emit = (event: GenerationEvent) => {
      if (event.type === 'prompt') found.tokens = event.tokens
      if (event.type === 'scored prompt') found.ids.push(...event.tokens.map(({ id }) => id))
    }
    const { signal } = new AbortController()
    const settings = generationSettings.parse({ decoding: { kind: 'sampling', temperature: 0 }, template: 'raw', maxTokens: 1 })
    const columns = [{ plan: null, fingerprint: null }]
    const request = { model: model.path, columns, prompts: [prompt], settings, scoresPrompts: true, backend: 'auto' as const }
    await generateColumns(request, { emit, signal, columnSignal: () => signal, flow: async () => {} })
    return found
  }
  const ids = tokenizer.encode('Once upon')
  expect(await scored({ text: 'Once upon' })).toEqual({ tokens: ids.length + 1, ids })
  expect(await scored({ text: '', continueFrom: ids })).toEqual({ tokens: ids.length, ids })
  expect(await scored({ text: '', continueFrom: [1, ...ids] })).toEqual({ tokens: ids.length + 1, ids: [1, ...ids] })
})

test('a plan with fewer tokens answers with its own tokenizer, and equally where no token that it lost is written', async () => {
  const prompt = 'Once upon a time, there was'
  const { signal } = new AbortController()
  const settings = generationSettings.parse({ decoding: { kind: 'sampling', temperature: 0 }, template: 'raw', maxTokens: 12 })
  const write = async (plans: readonly (Plan | null)[]) => {
    const found: { text: string; ids: number[] }[] = []
    const emit = (event: GenerationEvent) => {
      if (event.type === 'answer') found[event.column] = { text: event.text, ids: event.tokens.map(({ id }) => id) }
    }
    const columns = plans.map((plan) => ({ plan, fingerprint: null }))
    const request = { model: model.path, columns, prompts: [{ text: prompt }], settings, backend: 'auto' as const }
    await generateColumns(request, { emit, signal, columnSignal: () => signal, flow: async () => {} })
    return found
  }
  const [dense] = await write([null])
  const counts = new Float64Array(tokenizer.size)
  for (const id of [...tokenizer.encode(prompt), ...(dense?.ids ?? [])]) counts[id] = 1
  const asked = { target: { coverage: 1 }, prior: 0, scripts: [] }
  const { kept } = await chooseTokens(await openTokenizerFiles(model.path), tokenizer, counts, asked, { rows: tokenizer.size, named: [] })
  expect(kept.length).toBeLessThan(tokenizer.size - 50)
  // Beside the dense model, whose rows are read in the same operations.
  const [first, second] = await write([null, { ...densePlan(model.spec), vocabulary: { kept } }])
  expect(first).toEqual(dense)
  expect(second?.text).toBe(dense?.text)
  expect(second?.ids.map((id) => kept[id])).toEqual(dense?.ids)
})
