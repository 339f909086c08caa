import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { lookAtText, sharedPassages } from '#engine/tasks/look-at-text.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const model = join(import.meta.dirname, '../../../resources/sample-model')
const words = (seed: number, count: number) =>
  Array.from({ length: count }, (_, i) => ['tree', 'stone', 'river', 'horse', 'light', 'seven', 'music'][(i * i * seed + i) % 7]).join(' ')
const folder = scratchFolder('look')

beforeAll(async () => {
  await writeFile(join(folder, 'one.txt'), `It begins so. ${words(3, 600)}`)
  await writeFile(join(folder, 'two.txt'), words(5, 600))
})

const data = (name: string) => ({ source: join(folder, name), sequenceLength: 64 })

test('counts the windows that a text gives this model and shows its beginning', async () => {
  const look = await lookAtText(model, data('one.txt'), undefined)
  expect(look).toMatchObject({ more: false, sequenceLength: 64, overlap: null })
  expect(look.windows).toBeGreaterThan(5)
  expect(look.beginning).toMatch(/^It begins so\. tree/)
})

test('a text shares all passages with itself and none with another', async () => {
  expect((await lookAtText(model, data('one.txt'), data('one.txt'))).overlap).toBe(1)
  expect((await lookAtText(model, data('two.txt'), data('one.txt'))).overlap).toBeLessThan(0.1)
})

test('a passage counts as shared wherever it stands in the other text', () => {
  const others = [Int32Array.from({ length: 100 }, (_, i) => i)]
  const shifted = [Int32Array.from({ length: 48 }, (_, i) => i + 5), Int32Array.from({ length: 48 }, (_, i) => 1000 + i)]
  expect(sharedPassages(shifted, others)).toBe(0.5)
})

test('says why a text cannot be used', async () => {
  await expect(lookAtText(model, data('none.txt'), undefined)).rejects.toThrow(/none\.txt/)
})
