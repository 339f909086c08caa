import { expect, test } from 'vitest'
import { enoughWindows } from '#contract/comparison/verdict-sentence.ts'
import { grid as gridSchema, type QuickSizes, type QuickTarget } from '#contract/experiments/experiments.ts'
import { parseOptions } from '#engine/pruning/method.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { checkSize, joinSizes, quickGrids, quickName } from '#services/experiments/quick-answer.ts'

const outline = (type: string, bytes: number | null) => ({ format: 'gguf', type, bytes, keyValueBytes: 1, notes: [], problem: null })
const sizes: QuickSizes = {
  today: 1e9,
  files: joinSizes([outline('F16', 1e9), outline('Q8_0', 530e6), outline('Q4_K_M', 400e6), outline('Q4_0', 400e6), outline('Q2_K', 330e6)]),
  least: 250e6,
  method: 'gates',
}
const question = (target: QuickTarget, changes: object = {}) => ({
  model: { id: 'model-1', name: 'Qwen', contextLength: 32_768 },
  text: null,
  target,
  sizes,
  mixes: false,
  ...changes,
})
const own = { source: '/home/me/notes.txt', sequenceLength: 512, split: { part: 'choosing' as const, seed: 3 } }

test('types that make files of one size are one entry, and files that cannot be made are none', () => {
  expect(sizes.files.map(({ types }) => types)).toEqual([['F16'], ['Q8_0'], ['Q4_K_M', 'Q4_0'], ['Q2_K']])
  expect(joinSizes([outline('Q2_K', null)])).toEqual([])
})

test('a file is pruned in the smallest type that still has to shrink, against the largest unpruned files that fit', () => {
  const typesAt = (bytes: number) => quickGrids(question({ bytes })).map(({ weights, rivals }) => [weights, rivals])[0]
  expect(typesAt(350e6)).toEqual([['Q4_K_M'], ['Q2_K']])
  expect(typesAt(450e6)).toEqual([['Q8_0'], ['Q4_K_M', 'Q2_K']])
  // None fits, so the smallest shows what quantising reaches.
  expect(typesAt(300e6)).toEqual([['Q4_K_M'], ['Q2_K']])
})

test('a size that no file can have is refused with the sizes that can be made', () => {
  for (const bytes of [200e6, 0, -1e6])
    expect(() => checkSize(bytes, sizes)).toThrow(`No file of ${bytes / 1e6} MB can be made. Choose 250 MB or more.`)
  expect(() => checkSize(2e9, sizes)).toThrow('The file of the model is smaller than 2000 MB already. Choose 1000 MB or less.')
})

test('where types can be mixed, gates divide the bytes and the unpruned model in mixed types of that size is the first rival', () => {
  const at = (bytes: number) => quickGrids(question({ bytes }, { mixes: true })).map(({ amounts, rivals }) => [amounts[0], rivals])
  expect(at(300e6)[0]).toEqual([{ bytes: 300e6, format: 'gguf', type: 'MIXED:300000000' }, ['MIXED:300000000']])
  expect(at(450e6)[0]?.[1]).toEqual(['MIXED:450000000', 'Q4_K_M'])
})

test('every look is a grid that the contract takes, with options that its method has, each shorter than the one before', () => {
  for (const [target, mixes] of [
    [{ bytes: 350e6 }, false],
    [{ bytes: 350e6 }, true],
    [{ tokensPerSecond: 30 }, false],
  ] as const) {
    const grids = quickGrids(question(target, { mixes }))
    expect(grids.length).toBeGreaterThan(2)
    for (const grid of grids) expect(gridSchema.safeParse(grid).success).toBe(true)
    for (const { methods } of grids)
      for (const { method, options } of methods) expect(() => parseOptions(findMethod(method), options)).not.toThrow()
    const windows = grids.map(({ calibration }) => calibration?.windows ?? 0)
    expect(windows).toEqual([...windows].sort((a, b) => b - a))
  }
  const without = quickGrids(question({ bytes: 350e6 }, { sizes: { ...sizes, method: '2ssp' }, mixes: true }))
  expect(new Set(without.flatMap(({ methods }) => methods.map(({ method }) => method)))).toEqual(new Set(['2ssp']))
  expect(without[0]?.amounts).toEqual([{ bytes: 350e6, format: 'gguf' }])
})

test('a text of the user’s own chooses by one part and decides by the other; other text shows the cost elsewhere', () => {
  const [grid] = quickGrids(question({ bytes: 350e6 }, { text: own }))
  expect(grid?.calibration).toMatchObject({ source: own.source, split: own.split })
  expect(grid?.measures.slice(0, 2)).toMatchObject([
    { kind: 'perplexity', name: 'notes.txt', data: { source: own.source, split: { part: 'deciding', seed: 3 } } },
    { kind: 'perplexity', name: 'Prose' },
  ])
  expect(quickName(question({ bytes: 350e6 }, { text: own }))).toBe('Qwen at 350 MB, notes.txt')
})

test('a look measures as many windows as a verdict asks for, unless even the least thorough one is slow', () => {
  const measured = quickGrids(question({ bytes: 350e6 })).map(({ measures: [first] }) => first?.kind === 'perplexity' && first.data.windows)
  expect(measured.pop()).toBeLessThan(enoughWindows)
  expect(new Set(measured)).toEqual(new Set([enoughWindows]))
})
