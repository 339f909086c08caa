import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { activations } from '#engine/backend/bf16-ops.ts'
import { inOrder, normKinds, stepNumbers, stepWords } from '#engine/backend/native-inputs.ts'
import { fusedSource } from '../../../src-main/runtime/places.mjs'
import { findCompiler } from '../../../src-main/setup/tensorflow/compiler.mjs'
import { processorFeatures } from '../../fixtures/processor-features.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'

// C++ and TypeScript pass some values by position. Both sides name them; these tests compare the names.

const folder = join(import.meta.dirname, '../../../src-main/engine/backend/native')
const files = (readdirSync(folder, { recursive: true }) as string[]).filter((name) => /\.(h|cc)$/.test(name)).sort()
const read = (name: string) => readFileSync(join(folder, name), 'utf8')
const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())

/** The names of an enum in `decode-words.h`, without its count. */
function namesIn(space: string): string[] {
  const [, list = ''] = read('kernels/decode-words.h').match(new RegExp(`namespace ${space} \\{\\s*enum \\{([^}]*)\\}`)) ?? []
  return list.split(/[\s,]+/).filter((name) => name && name !== 'count')
}

test('every file changes the name of the compiled library', () => {
  const hash = createHash('sha256')
  for (const name of files) hash.update(`${name}\n${read(name)}`)
  expect(fusedSource).toBe(hash.digest('hex').slice(0, fusedSource.length))
})

const compiler = findCompiler()
test.skipIf(!compiler)('every header is complete by itself', { timeout: 300_000 }, () => {
  const flags = ['-std=c++17', process.arch === 'arm64' ? '-mcpu=native' : '-march=native', '-fsyntax-only', '-x', 'c++']
  const headers = files.filter((name) => name.endsWith('.h'))
  expect(headers.length).toBeGreaterThan(20)
  for (const chain of chainsOf(headers)) {
    const included = chain.flatMap((header) => ['-include', join(folder, header)])
    execFileSync(compiler as string, [...flags, ...included, '/dev/null'])
  }
})

test.skipIf(!compiler || !/\bavx512_bf16\b/.test(processorFeatures))(
  'matrix units, computed step by step, multiply as vectors do',
  { timeout: 300_000 },
  () => {
    const made = scratchOfTest('tiles')
    const program = join(made, 'tiles')
    execFileSync(compiler as string, [
      '-std=c++17',
      '-march=native',
      '-O1',
      '-I',
      folder,
      join(import.meta.dirname, 'native/tiles.cc'),
      '-o',
      program,
    ])
    const [plain = 1, plainTiles = 1, exact = 1, exactTiles = 1, split = 1, splitTiles = 1] = execFileSync(program, { encoding: 'utf8' })
      .trim()
      .split(' ')
      .map(Number)
    expect([plainTiles / plain, exactTiles / exact, splitTiles / split].every((ratio) => Math.abs(ratio - 1) < 0.1)).toBe(true)
    // If the weight has 16 bits, only the rows lose precision.
    expect([plain < 2e-3, split < 1e-5, exact < split / 2]).toEqual([true, true, true])
    execFileSync(compiler as string, [
      '-std=c++17',
      '-march=sapphirerapids',
      '-fsyntax-only',
      '-x',
      'c++',
      '-include',
      join(folder, 'bf16/bf16-mlp.h'),
      '/dev/null',
    ])
  },
)

/** All of our own headers that a header includes, directly or not. */
function includedBy(header: string): Set<string> {
  const own = [...read(header).matchAll(/#include "([^"]+)"/g)].map(([, name = '']) => join(header, '..', name))
  return new Set(own.flatMap((name) => [name, ...includedBy(name)]))
}

/**
 * Sorts headers into few chains in which each includes all earlier ones. The headers before one then add nothing to it, so one run of the
 * compiler checks a whole chain.
 */
function chainsOf(headers: readonly string[]): string[][] {
  const chains: string[][] = []
  const included = new Map(headers.map((header) => [header, includedBy(header)]))
  const size = (header: string) => included.get(header)?.size ?? 0
  for (const header of headers.toSorted((a, b) => size(a) - size(b))) {
    const last = chains.findLast((chain) => included.get(header)?.has(chain.at(-1) as string))
    if (last) last.push(header)
    else chains.push([header])
  }
  return chains
}

test('words, numbers and kinds of norms of a step have one order', () => {
  expect(namesIn('word')).toEqual(stepWords)
  expect(namesIn('number')).toEqual(stepNumbers)
  expect(Object.fromEntries(namesIn('normKind').map((name, number) => [name, number]))).toEqual(normKinds)
})

test('activations have the same numbers', () => {
  const [, list = ''] = read('activation.h').match(/enum Activation \{([^}]*)\}/) ?? []
  const numbers = Object.fromEntries(Object.entries(activations).map(([name, number]) => [camel(name), number]))
  expect(Object.fromEntries(list.split(',').map((name, number) => [name.trim(), number]))).toEqual(numbers)
})

/** Operations as `register.cc` declares them. */
const registered = [...read('register.cc').matchAll(/registerKernel<(\w+)>\(\s*"(\w+)",\s*\{([^}]*)\}/g)].map(
  ([, kernel = '', name = '', inputs = '']) => ({
    kernel,
    name,
    inputs: [...inputs.matchAll(/"(\w+):/g)].map(([, input = '']) => camel(input)),
  }),
)

test('all operations are registered by name', () => {
  expect(registered).toHaveLength(28)
})

test.each(registered)('$name has its inputs in one order', ({ kernel, name, inputs }) => {
  const named = new Proxy({}, { get: (_, input) => input, has: () => true })
  expect(inOrder(name as 'EspalierNorm', named as never)).toEqual(inputs)
  // A kernel that returns more than another reads the same inputs.
  const start = `struct ${kernel.replace(/^(Kept|Summed)/, '')} {`
  const source = files.map(read).find((text) => text.includes(start)) ?? ''
  const body = source.slice(source.indexOf(start))
  const [, fetched = ''] = /call\.inputs\(\{([^}]*)\}\)/.exec(body.slice(0, body.search(/\n\};/))) ?? []
  const lists: Record<string, string[]> = { EspalierDecode: ['tensors', 'halves'], EspalierGroup: ['blocks'] }
  expect([...[...fetched.matchAll(/&(?:in\.)?(\w+)/g)].map(([, input = '']) => input), ...(lists[name] ?? [])]).toEqual(inputs)
})
