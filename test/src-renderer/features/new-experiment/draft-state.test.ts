import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { DraftState } from '../../../../src-renderer/features/new-experiment/draft-state.svelte.ts'
import { eventually } from '../../../eventually.ts'

interface Asked {
  grid: { seeds: number[] }
  signal: AbortSignal
  answer(): void
}

/** Previews that were asked for, in order. */
let asked: Asked[]

beforeEach(() => {
  asked = []
  vi.stubGlobal('sessionStorage', { getItem: () => null })
  vi.stubGlobal('fetch', (_address: string, { body, signal }: { body: string; signal: AbortSignal }) => {
    const { promise, resolve, reject } = Promise.withResolvers<Response>()
    signal.addEventListener('abort', () => reject(signal.reason as Error))
    const answer = () => resolve(Response.json({ combinations: [], problems: [], notes: [], runs: asked.length }))
    asked.push({ grid: JSON.parse(body).grid, signal, answer })
    return promise
  })
})
afterEach(() => vi.unstubAllGlobals())

function shownForm(): DraftState {
  const form = new DraftState({}, () => true)
  form.draft.models = ['a']
  form.ready = true
  return form
}

test('a change stops the preview of the draft before it, and shows the next one', async () => {
  const form = shownForm()
  form.changed()
  await eventually(() => asked.length === 1, 'the first preview')
  form.change({ seeds: [1] })
  await eventually(() => asked.length === 2, 'the second preview')
  expect(asked.map(({ signal }) => signal.aborted)).toEqual([true, false])
  expect(form.isPreviewing).toBe(true)
  asked[1]?.answer()
  await eventually(() => !form.isPreviewing, 'the answer')
  expect(asked[1]?.grid.seeds).toEqual([1])
  expect([form.preview.value?.runs, form.preview.problem, form.preview.busy]).toEqual([2, null, false])
})

test('a page that is left stops its preview, and asks for no other', async () => {
  const form = shownForm()
  const leave = form.follow()
  form.changed()
  await eventually(() => asked.length === 1, 'the preview')
  form.change({ seeds: [1] })
  leave()
  expect(asked[0]?.signal.aborted).toBe(true)
  await sleep(400)
  expect(asked).toHaveLength(1)
})

test('the form begins with the first model whose files are there, and with that of its address whatever there is of it', async () => {
  const models = [
    { id: 'gone', present: false },
    { id: 'there', present: true },
  ]
  const answers: Record<string, unknown> = { '/api/models.list': models, '/api/clusters.list': [] }
  // The catalogue is refused, as other files of this process would share it.
  const refusal = () => Response.json({ code: 'internal', message: 'Not asked for here.' }, { status: 500 })
  vi.stubGlobal('fetch', async (address: string) => (answers[address] ? Response.json(answers[address]) : refusal()))
  for (const [query, first] of [
    [{}, 'there'],
    [{ model: 'gone' }, 'gone'],
  ] as const) {
    const form = new DraftState(query, () => false)
    await form.start()
    expect(form.draft.models).toEqual([first])
  }
})
