import { expect, test } from 'vitest'
import { beginning, encodeQuestion } from '#engine/evaluation/tasks/encode.ts'
import type { Question, Request } from '#engine/evaluation/tasks/index.ts'
import { characterTokenizer } from './table-model.ts'

const ask = (...requests: Request[]): Question => ({ requests, gold: 0 })
const text = (ids: Int32Array | undefined) => String.fromCodePoint(...(ids ?? []))

test('context and continuation are encoded as one text, and the border is the context’s own token count', () => {
  const tokenizer = characterTokenizer({ ': ': 1 })
  const { requests } = encodeQuestion(tokenizer, ask({ context: 'A:', continuations: [' yes'] }), 100)
  // The context alone has two tokens; in the whole text the second one holds the space as well.
  expect(requests).toEqual([{ prefix: Int32Array.of(65, 1), continuations: [Int32Array.from(tokenizer.encode('yes'))] }])
})

test('white space at the context’s end is scored with the continuation', () => {
  const { requests } = encodeQuestion(characterTokenizer(), ask({ context: 'ab \n', continuations: [' c'] }), 100)
  expect(text(requests[0]?.prefix)).toBe('ab')
  expect(text(requests[0]?.continuations[0])).toBe(' \n c')
})

test('an empty or blank context starts from the begin token, or from the end token if there is none', () => {
  for (const context of ['', ' \n']) {
    const question = ask({ context, continuations: [' a'] })
    expect(encodeQuestion({ ...characterTokenizer(), beginId: 7 }, question, 100).requests[0]?.prefix).toEqual(Int32Array.of(7))
    expect(encodeQuestion(characterTokenizer(), question, 100).requests[0]?.prefix).toEqual(Int32Array.of(0))
    expect(() => encodeQuestion({ ...characterTokenizer(), endIds: [] }, question, 100)).toThrow(/neither/)
  }
})

test('a sequence that is too long is cut on the left to one token more than the context length', () => {
  const question = ask({ context: 'abcdef', continuations: [' x', ' yz'] })
  const { requests, places } = encodeQuestion(characterTokenizer(), question, 4)
  expect(requests.map((request) => [text(request.prefix), request.continuations.map(text)])).toEqual([
    ['def', [' x']],
    ['ef', [' yz']],
  ])
  expect(places).toEqual([
    { request: 0, continuation: 0 },
    { request: 1, continuation: 0 },
  ])
  expect(() => encodeQuestion(characterTokenizer(), ask({ context: 'a', continuations: [' 1234'] }), 4)).toThrow(/5 tokens does not fit/)
})

test('choices with the same prefix share a request, and different contexts do not', () => {
  const together = encodeQuestion(characterTokenizer(), ask({ context: 'a', continuations: [' b', ' cd', ' e'] }), 100)
  expect(together.requests).toHaveLength(1)
  expect(together.places.map((place) => place.continuation)).toEqual([0, 1, 2])
  const apart = encodeQuestion(
    characterTokenizer(),
    ask({ context: 'a', continuations: [' x'] }, { context: 'b', continuations: [' x'] }),
    100,
  )
  expect(apart.places).toEqual([
    { request: 0, continuation: 0 },
    { request: 1, continuation: 0 },
  ])
})

test('a tokenizer that merges across the border leaves the last token to score', () => {
  const tokenizer = characterTokenizer({ 'b ': 1, ab: 2 })
  const melting = { ...tokenizer, encode: (given: string) => (given === 'ab c' ? [9] : tokenizer.encode(given)) }
  const { requests } = encodeQuestion(melting, ask({ context: 'ab', continuations: [' c'] }), 100)
  expect(requests).toEqual([{ prefix: Int32Array.of(0), continuations: [Int32Array.of(9)] }])
})

test('a begin token in front of questions belongs to the context and is cut with it', () => {
  const tokenizer = beginning({ ...characterTokenizer(), beginId: 7 })
  const question = ask({ context: 'ab', continuations: [' c'] }, { context: '', continuations: ['d'] })
  const [first, second] = encodeQuestion(tokenizer, question, 100).requests
  expect(first).toEqual({ prefix: Int32Array.of(7, 97, 98), continuations: [Int32Array.from(characterTokenizer().encode(' c'))] })
  expect(second?.prefix).toEqual(Int32Array.of(7))
  expect(encodeQuestion(tokenizer, question, 3).requests[0]?.prefix).toEqual(Int32Array.of(97, 98))
})
