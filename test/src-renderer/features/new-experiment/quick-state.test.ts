import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { QuickState } from '../../../../src-renderer/features/new-experiment/quick/quick-state.svelte.ts'
import { eventually } from '../../../eventually.ts'

interface Asked {
  call: string
  input: { model: string; target?: { bytes: number }; name?: string }
  /** Only of a call that can be stopped. */
  signal: AbortSignal | undefined
  answer(value: object): void
  fail(message: string): void
}

/** Requests that wait for an answer, in their order. */
let waiting: Asked[]
/** What the browser keeps. */
let kept: Map<string, string>

beforeEach(() => {
  waiting = []
  kept = new Map()
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => kept.set(key, value),
    removeItem: (key: string) => kept.delete(key),
  }
  vi.stubGlobal('localStorage', storage)
  vi.stubGlobal('sessionStorage', storage)
  vi.stubGlobal('location', { hash: '' })
  vi.stubGlobal('fetch', (address: string, { body, signal }: { body: string; signal?: AbortSignal }) => {
    const call = address.replace('/api/', '')
    return new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason as Error))
      waiting.push({
        call,
        input: JSON.parse(body),
        signal,
        answer: (value) => resolve(Response.json(value)),
        fail: (message) => resolve(Response.json({ code: 'infeasible', message }, { status: 422 })),
      })
    })
  })
})
afterEach(() => vi.unstubAllGlobals())

const sizes = { today: 6e6, files: [{ types: ['Q4_K_M'], bytes: 4e6 }], least: 2e6, method: 'gates' }
const answerTo = (name: string) => ({ grid: {}, name, preview: { problems: [], seconds: { low: 1, likely: 2, high: 3 } } })
const asked = async (call: string, count = 1) => {
  await eventually(() => waiting.filter((one) => one.call === call).length >= count, `${count} × ${call}`)
  return waiting.filter((one) => one.call === call)[count - 1] as Asked
}

/** The form as its page drives it: each change of a choice is looked at. */
function form(model: string) {
  const quick = new QuickState()
  const look = (of = model) => quick.lookAt(of, null, quick.sizes ? quick.target : null)
  void quick.take(model)
  look()
  return { quick, look }
}

test('a press before the sizes are known, or before the answer, starts the experiment with the size that is shown', async () => {
  const { quick, look } = form('a')
  void quick.start('')
  expect(quick.starting).toBe(true)
  ;(await asked('experiments.sizes')).answer(sizes)
  await eventually(() => quick.sizes !== null, 'sizes')
  look()
  const question = await asked('experiments.quick')
  expect(question.input.target).toEqual({ bytes: 3e6 })
  question.answer(answerTo('a at 3 MB'))
  expect((await asked('experiments.create')).input.name).toBe('a at 3 MB')
})

test('another choice takes a press back, and another model asks nothing about the one before', async () => {
  const { quick, look } = form('a')
  ;(await asked('experiments.sizes')).answer(sizes)
  await eventually(() => quick.sizes !== null, 'sizes')
  quick.want({ bytes: 5e6 })
  look()
  void quick.start('')
  quick.want({ bytes: 4e6 })
  expect(quick.starting).toBe(false)
  look()
  // Within the pause that waits for more typing.
  void quick.take('b')
  look('b')
  await new Promise((resolve) => setTimeout(resolve, 400))
  expect(waiting.filter(({ call }) => call === 'experiments.quick')).toEqual([])
  expect(quick.isStale).toBe(true)
})

test('start over forgets a typed size, also for the next visit', async () => {
  const { quick } = form('a')
  ;(await asked('experiments.sizes')).answer(sizes)
  await eventually(() => quick.sizes !== null, 'sizes')
  expect([quick.bytes, quick.isChanged]).toEqual([3e6, false])
  quick.want({ bytes: 5e6 })
  expect([quick.isChanged, kept.size]).toEqual([true, 1])
  void quick.start('')
  quick.startOver()
  expect([quick.bytes, quick.isChanged, quick.starting, kept.size]).toEqual([3e6, false, false, 0])
})

test('a model whose sizes cannot be known starts nothing, and says why', async () => {
  const { quick } = form('a')
  ;(await asked('experiments.sizes')).fail('No method can prune this model.')
  await eventually(() => quick.problem !== '', 'the problem')
  void quick.start('')
  expect([quick.starting, quick.problem]).toEqual([false, 'No method can prune this model.'])
})

test('after a look at speeds, a model without sizes still says why, and a press starts nothing', async () => {
  const { quick } = form('a')
  ;(await asked('experiments.sizes')).fail('No method can prune this model.')
  await eventually(() => quick.problem !== '', 'the problem')
  quick.want({ kind: 'speed', tokensPerSecond: 30 })
  quick.lookAt('a', null, { tokensPerSecond: 30 })
  expect(quick.problem).toBe('')
  quick.want({ kind: 'size' })
  quick.lookAt('a', null, null)
  void quick.start('')
  expect([quick.starting, quick.problem]).toEqual([false, 'No method can prune this model.'])
})

test('another size, and leaving the page, stop the question before, which says nothing then', async () => {
  const { quick, look } = form('a')
  ;(await asked('experiments.sizes')).answer(sizes)
  await eventually(() => quick.sizes !== null, 'sizes')
  look()
  const first = await asked('experiments.quick')
  quick.want({ bytes: 5e6 })
  look()
  expect(first.signal?.aborted).toBe(true)
  const second = await asked('experiments.quick', 2)
  expect([quick.problem, quick.isStale, second.signal?.aborted]).toEqual(['', true, false])
  void quick.start('')
  quick.leave()
  expect(second.signal?.aborted, 'what was started').toBe(false)
  quick.want({ bytes: 5e6 })
  quick.leave()
  expect(second.signal?.aborted).toBe(true)
})
