import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { at } from '#contract/at.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { findNeedles, foundMeasure, hideNeedles, lengthsUpTo, perplexityByPosition } from '#engine/evaluation/long-context.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { resources } from '#runtime/resources.ts'

await openBackend('auto')
const path = join(resources, 'sample-model')
const model = await openModel(path)
const view = denseView(model)
const tokenizer = await openTokenizer(path)
const ids = tokenizer.encode('The lighthouse keeper counted the boats again while the fog came in from the west. '.repeat(40))
const windows = [0, 40, 80].map((first) => Int32Array.from(ids.slice(first, first + 64)))

afterAll(() => model.close())

it('perplexity by position is that of shorter windows, and of the whole when put together', async () => {
  const [first, second, third] = await perplexityByPosition(view, windows, 'fog')
  expect([first, second, third].map((measure) => measure?.name)).toEqual([
    'perplexity, tokens 1 to 16',
    'perplexity, tokens 17 to 32',
    'perplexity, tokens 33 to 64',
  ])
  const quarter = await perplexity(
    view,
    windows.map((window) => window.slice(0, 16)),
  )
  expect(first?.value).toBeCloseTo(quarter.perplexity, 4)
  const whole = await perplexity(view, windows)
  const sum = 15 * Math.log(first?.value ?? 0) + 16 * Math.log(second?.value ?? 0) + 32 * Math.log(third?.value ?? 0)
  expect(sum / 63).toBeCloseTo(Math.log(whole.perplexity), 10)
})

it('names a window that is too short for its parts', async () => {
  const short = [Int32Array.from(ids.slice(0, 7))]
  await expect(perplexityByPosition(view, short, 'fog')).rejects.toThrow('a window of fog has 7')
})

it('hides a number at each depth of a text that has room for the answer, after the begin token and before the question', () => {
  const window = Int32Array.from(ids.slice(0, 256))
  expect(lengthsUpTo(256)).toEqual([64, 128, 256])
  const needles = hideNeedles(window, 128, tokenizer, 1)
  expect(new Set(needles.map(({ number }) => number)).size).toBe(5)
  const depths = needles.map(({ prompt, number }) => {
    expect(prompt.length + tokenizer.encode(` ${number}.`).length).toBe(128)
    expect(prompt[0]).toBe(1)
    const text = tokenizer.decode(prompt.slice(1))
    expect(text.split(number)).toHaveLength(2)
    expect(text).toMatch(/The door code of \w+ is$/)
    return text.indexOf(number) / text.length
  })
  expect(depths).toEqual(depths.toSorted((a, b) => a - b))
  expect(at(depths, 0)).toBeLessThan(0.2)
  expect(at(depths, 4)).toBeGreaterThan(0.75)
  expect(hideNeedles(window, 40, tokenizer)).toEqual([])
})

it('a number counts as found if the likeliest tokens contain it', async () => {
  const prompt = [...at(windows, 0)]
  const [never] = await findNeedles(view, [{ prompt, number: '10007' }], tokenizer)
  expect(never).toBe(false)
  const session = new DecodingSession(view)
  const [logits] = await session.feed(Int32Array.from(prompt), 1)
  session.dispose()
  const row = [...(logits ?? [])]
  const next = tokenizer.decode([row.indexOf(Math.max(...row))]).trim()
  expect(next).not.toBe('')
  expect(await findNeedles(view, [{ prompt, number: next }], tokenizer)).toEqual([true])
  expect(foundMeasure(64, [true, false, false, false], 'fog')).toEqual({
    name: 'numbers found in 64 tokens',
    dataset: 'fog',
    value: 0.25,
    unit: 'share',
    error: Math.sqrt(0.1875 / 3),
  })
})
