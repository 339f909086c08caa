import { expect, test } from 'vitest'
import { StopText } from '#engine/evaluation/generation/stop-text.ts'

function read(stops: string[], pieces: string[]): { text: string; stopped: boolean } {
  const stop = new StopText(stops)
  let text = ''
  for (const piece of pieces) {
    const next = stop.push(piece)
    text += next.text
    if (next.stopped) return { text, stopped: true }
  }
  return { text: text + stop.finish(), stopped: false }
}

test.each([
  ['in one piece', ['\n\n'], ['a\n\nb'], { text: 'a', stopped: true }],
  ['over several pieces', ['Question:'], ['so. Que', 'sti', 'on: why'], { text: 'so. ', stopped: true }],
  ['whose beginning repeats', ['aab'], ['a', 'a', 'a', 'b'], { text: 'a', stopped: true }],
  ['the earliest of two', ['cd', 'bc'], ['ab', 'cd'], { text: 'a', stopped: true }],
  ['that only began', ['Question:'], ['so. Quest'], { text: 'so. Quest', stopped: false }],
  ['that turned out another', ['Q:'], ['a Q', 'R'], { text: 'a QR', stopped: false }],
])('a stop text %s', (_, stops, pieces, expected) => {
  expect(read(stops, pieces)).toEqual(expected)
})
