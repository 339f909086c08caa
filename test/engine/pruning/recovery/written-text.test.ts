import { describe, expect, test } from 'vitest'
import { keysAndValues } from '#engine/architectures/count-parameters.ts'
import { denseView } from '#engine/model/views/view.ts'
import { drawToken, writeWindows } from '#engine/pruning/recovery/written-text.ts'
import { openTokenizer, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { openReference, recordedRun } from '../running.ts'

test('a token is drawn as often as its probability says', () => {
  const shares = [0.5, 0.25, 0.125, 0.125]
  const logits = Float32Array.from(shares, Math.log)
  const drawn = Array.from({ length: 1000 }, (_, i) => drawToken(logits, (i + 0.5) / 1000))
  expect(shares.map((_, id) => drawn.filter((one) => one === id).length)).toEqual([500, 250, 125, 125])
})

describe('stories260k', () => {
  const open = openReference('stories260k')
  const together = 4
  /** With memory for four texts at a time, so a few windows take several groups. */
  const writer = async (seed: number, steps?: Map<string, string>, stopAfter?: number) => {
    const { model } = open()
    const bytesOfText = 8 * 256 * keysAndValues(model.spec)
    return {
      view: denseView({ ...model, workspaceBytes: 2 * together * bytesOfText }),
      tokenizer: (await openTokenizer(model.path)) as Tokenizer,
      seed,
      run: recordedRun(seed, steps, stopAfter),
    }
  }
  const textOf = (windows: readonly Int32Array[]) => windows.map((window) => [...window])

  test('writes stories from its begin token on, the same for the same seed', async () => {
    const one = await writer(1)
    const windows = await writeWindows(one, 12, 64)
    expect(windows.map(({ length }) => length)).toEqual(Array(12).fill(64))
    expect(windows[0]?.[0]).toBe(one.tokenizer.beginId)
    // A model trained on stories writes their words; a broken draw would write none.
    expect(one.tokenizer.decode(windows.flatMap((window) => [...window]))).toMatch(/\b(the|and|was|she|they)\b/)
    expect(textOf(await writeWindows(await writer(1), 12, 64))).toEqual(textOf(windows))
    expect(textOf(await writeWindows(await writer(2), 12, 64))).not.toEqual(textOf(windows))
  })

  test('finds what was written after a kill, and a shorter text at the beginning of a longer', async () => {
    const whole = await writeWindows(await writer(3), 32, 64)
    const steps = new Map<string, string>()
    await expect(writeWindows(await writer(3, steps, 1), 32, 64)).rejects.toThrow('killed')
    const again = await writer(3, steps)
    expect(textOf(await writeWindows(again, 32, 64))).toEqual(textOf(whole))
    expect(again.run.computed.length).toBe(steps.size - 1)
    expect(textOf(await writeWindows(await writer(3, steps), 5, 64))).toEqual(textOf(whole.slice(0, 5)))
  })

  test('a chat template opens every second group with a user turn', async () => {
    const own = await writer(1)
    const chat = () => `${own.tokenizer.decode(own.tokenizer.encode('Once upon a time'))}\u2402`
    const windows = await writeWindows(
      { ...own, tokenizer: { ...own.tokenizer, encode: own.tokenizer.encode, decode: own.tokenizer.decode, chats: true, chat } },
      32,
      64,
    )
    const ids = windows.flatMap((window) => [...window])
    const opening = own.tokenizer.encode('Once upon a time').join()
    const many = ids.filter((_, place) => ids.slice(place, place + opening.split(',').length).join() === opening)
    expect(many.length).toBeGreaterThanOrEqual(together)
  })

  test('a model without a tokenizer cannot write', async () => {
    await expect(writeWindows({ ...(await writer(1)), tokenizer: undefined }, 1, 64)).rejects.toThrow('cannot write text')
  })
})
