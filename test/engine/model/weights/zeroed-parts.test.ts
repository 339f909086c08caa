import { expect, test } from 'vitest'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { zeroedParts } from '#engine/model/weights/zeroed-parts.ts'

const [rows, columns] = [600, 4096]
const projection = (weight: string) => ({ weight, firstRow: 0, rows, columns })
const spec = {
  blocks: [{ attention: true, width: columns }],
  block: () => ({ output: projection('output'), down: projection('down') }),
} as unknown as DecoderSpec

/** A checkpoint of zeros, except for one value of `down`. It records what is read, and how much at a time. */
function zeros(otherRow?: number) {
  const reads: { name: string; first: number; count: number }[] = []
  let [atOnce, most] = [0, 0]
  const readFloat32 = async (name: string, given?: { first: number; count: number }) => {
    const part = given ?? { first: 0, count: rows }
    reads.push({ name, ...part })
    atOnce += part.count * columns
    most = Math.max(most, atOnce)
    const values = new Float32Array(part.count * columns)
    if (name === 'down' && otherRow !== undefined && otherRow >= part.first && otherRow < part.first + part.count)
      values[(otherRow - part.first) * columns] = 1
    await new Promise(setImmediate)
    atOnce -= part.count * columns
    return values
  }
  return { checkpoint: { readFloat32 } as unknown as Checkpoint, reads, mostValues: () => most }
}

test('a weight of zeros is read once, a megabyte at a time', async () => {
  const { checkpoint, reads, mostValues } = zeros()
  expect(await zeroedParts(checkpoint, spec, 0)).toEqual(['attention', 'mlp'])
  expect(mostValues()).toBeLessThanOrEqual(2 ** 18)
  for (const weight of ['output', 'down']) {
    const places = reads.filter(({ name }) => name === weight).sort((a, b) => a.first - b.first)
    expect(places.reduce((end, { first, count }) => (first === end ? end + count : Number.NaN), 0)).toBe(rows)
  }
})

test('a weight is read no further than its first value', async () => {
  const { checkpoint, reads } = zeros(300)
  expect(await zeroedParts(checkpoint, spec, 0)).toEqual(['attention'])
  expect(Math.max(...reads.filter(({ name }) => name === 'down').map(({ first }) => first))).toBeLessThanOrEqual(300)
})

test('reading zeros ends when it is cancelled', async () => {
  const { checkpoint, reads } = zeros()
  const cancelling = new AbortController()
  const described = zeroedParts(checkpoint, spec, 0, cancelling.signal)
  cancelling.abort(new Error('stopped'))
  await expect(described).rejects.toThrow('stopped')
  expect(reads.length).toBeLessThan(3)
})
