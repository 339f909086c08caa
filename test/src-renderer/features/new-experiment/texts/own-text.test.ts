import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { OwnText } from '../../../../../src-renderer/features/new-experiment/texts/own-text.svelte.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('a typed path is passed on at a pause, while the field keeps what was typed', () => {
  const text = new OwnText()
  const passed: string[] = []
  const onchange = (path: string) => void passed.push(path)
  for (const typed of ['/h', '/home/me/my ']) text.type(typed, onchange)
  expect(passed).toEqual([])
  vi.advanceTimersByTime(300)
  expect(passed).toEqual(['/home/me/my'])
  expect(text.typed, 'the space of "my code"').toBe('/home/me/my ')
  text.type('/home/me/my code ', onchange)
  text.settle(onchange)
  expect(text.typed).toBeNull()
  expect(passed.at(-1)).toBe('/home/me/my code')
  vi.advanceTimersByTime(1000)
  expect(passed, 'nothing is passed on after the field was left').toHaveLength(2)
})

test('a file that is no UTF-8 text is refused by name, not stored with its letters replaced', async () => {
  const stored: string[] = []
  vi.stubGlobal('fetch', async (_: string, { body }: { body: string }) => {
    stored.push(JSON.parse(body).content)
    return Response.json({ path: '/texts/own.txt' })
  })
  try {
    const text = new OwnText()
    const latin = new File([Uint8Array.of(0x4c, 0x65, 0x20, 0x63, 0x61, 0x66, 0xe9)], 'café.txt')
    expect(await text.upload(latin)).toBeNull()
    expect([stored, text.problem]).toEqual([[], 'café.txt is not UTF-8 text. Convert it to UTF-8.'])
    expect(await text.upload(new File(['Le café'], 'café.txt'))).toBe('/texts/own.txt')
    expect([stored, text.problem]).toEqual([['Le café'], ''])
  } finally {
    vi.unstubAllGlobals()
  }
})
