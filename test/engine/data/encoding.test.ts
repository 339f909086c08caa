import { expect, test, vi } from 'vitest'
import { Encoding } from '#engine/data/encoding.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'

/** A slow tokenizer: one token per character, in pieces of a thousand. */
const slow = {
  split: (text: string) => text.match(/[\s\S]{1,1000}/g) ?? [''],
  encode(text: string) {
    const until = performance.now() + 110
    while (performance.now() < until);
    return [...text].map((_, i) => i)
  },
} as unknown as Tokenizer

async function* documents(...texts: string[]) {
  yield* texts
}

test('encoding a long text reports how much is left, from its length or from what is needed', async () => {
  const reported: [number, number][] = []
  const report = { progress: (done: number, total: number) => void reported.push([done, total]) }
  const ids = await new Encoding(slow, Number.POSITIVE_INFINITY, { report }).take(documents('x'.repeat(4000)))
  expect(ids).toHaveLength(4000)
  expect(reported.slice(0, 3)).toEqual([
    [1000, 4000],
    [2000, 4000],
    [3000, 4000],
  ])
  reported.length = 0
  await new Encoding(slow, 2500, { report }).take(documents('x'.repeat(4000)))
  expect(reported).toEqual([
    [1000, 2500],
    [2000, 2500],
  ])
})

test('cancelling ends it in the middle of a document', async () => {
  const controller = new AbortController()
  const encoding = new Encoding(slow, Number.POSITIVE_INFINITY, {
    report: { signal: controller.signal, progress: () => controller.abort() },
  })
  const encode = vi.spyOn(slow, 'encode')
  await expect(encoding.take(documents('x'.repeat(100_000)))).rejects.toThrow('abort')
  expect(encode.mock.calls.length, 'pieces of 100').toBeLessThan(3)
})
