import { beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { pack } from '#engine/model/weights/weights.ts'

beforeAll(async () => {
  await openBackend('tensorflow')
})

test('values that do not fill whole words, or of another type, are unpacked in JavaScript', () => {
  const odd = pack(Uint8Array.from([0x80, 0x3f, 0x00, 0xc0, 0x20, 0x41]), 'BF16', [3]).unpack()
  expect([...odd.dataSync()]).toEqual([1, -2, 10])
  const wide = pack(new Uint8Array(Float32Array.from([0.1, 3]).buffer), 'F32', [2]).unpack()
  expect([...wide.dataSync()]).toEqual([Math.fround(0.1), 3])
  odd.dispose()
  wide.dispose()
})
