import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { explainExit } from '#jobs/compute/explain-exit.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { integers, makeGguf, text } from '../checkpoint/gguf/make-gguf.ts'
import { makeValidModel, writeModelFiles } from '../checkpoint/valid-model.ts'
import { makeByteLevel, writeTokenizer } from '../tokenizer/make-tokenizer.ts'

const scratch = scratchFolder('limits')

interface Outcome {
  value?: unknown
  error?: { code: string; message: string }
}

type Asked = [kind: string, path: string, toEncode?: string]

/** Reads one file in a process of its own. */
const read = (...asked: Asked): Outcome => readAll(asked)[0] as Outcome

/** Reads files in a separate process and reports the outcomes, as the main side would. */
function readAll(...all: Asked[]): Outcome[] {
  const script = join(import.meta.dirname, 'read-files.ts')
  const words = all.flatMap(([kind, path, toEncode = '']) => [kind, path, toEncode])
  const { stdout, stderr, signal, status } = spawnSync(process.execPath, [script, ...words], {
    encoding: 'utf8',
    timeout: 60_000,
  })
  if (status === 0) return JSON.parse(stdout)
  const { code, message } = explainExit({ code: status, signal, output: stderr, memoryBytes: 0, totalBytes: 1 })
  return [{ error: { code, message } }]
}

let folders = 0
function freshFolder(): string {
  const folder = join(scratch, String(folders++))
  mkdirSync(folder)
  return folder
}

async function modelFolder(config: Record<string, unknown> = {}): Promise<string> {
  const folder = freshFolder()
  const model = makeValidModel()
  await writeModelFiles(folder, { ...model, config: { ...model.config, ...config } })
  return folder
}

test('a sound model and a sound text are read as elsewhere', async () => {
  const folder = await modelFolder()
  await writeTokenizer(folder, { 'tokenizer.json': makeByteLevel(['Ġ t']) })
  const data = join(scratch, 'ids.json')
  writeFileSync(data, JSON.stringify([1, 2, 3, 4, 5]))
  expect(readAll(['describe', folder], ['windows', data])).toEqual([{ value: false }, { value: 5 }])
})

test.skipIf(process.platform === 'win32')('a pipe in the place of a file is refused at once', async () => {
  const folder = await modelFolder()
  execFileSync('mkfifo', [join(folder, 'espalier.json')])
  const data = freshFolder()
  execFileSync('mkfifo', [join(data, 'a.jsonl')])
  const error = { code: 'invalid', message: expect.stringContaining('is not a regular file') }
  expect(readAll(['describe', folder], ['texts', data])).toMatchObject([{ error }, { error }])
})

test.skipIf(process.platform !== 'linux')('a file of the system that never ends is as long as it says it is', () => {
  const error = { code: 'invalid' }
  expect(readAll(['windows', '/proc/kmsg'], ['rows', '/proc/self/mounts'])).toMatchObject([{ error }, { error }])
})

test('a template that loops for ever does not keep a model from being described, and is refused when it is used', async () => {
  const folder = await modelFolder()
  const loop = '{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}{% endfor %}{% endfor %}{% endfor %}'
  await writeTokenizer(folder, { 'tokenizer.json': makeByteLevel([]), 'tokenizer_config.json': { chat_template: loop } })
  const [described, used] = readAll(['describe', folder], ['chat', folder])
  expect(described).toEqual({ value: true })
  expect(used?.error?.message).toContain('more than 500,000 steps, the limit for a template')
})

test.each([
  ['a long range', '{{ range(300000000) | length }}', 'steps, the limit for a template'],
  [
    'a text that doubles',
    '{% set n = namespace(s="xxxxxxxx") %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}',
    'characters, the limit for a template',
  ],
  ['deep nesting', `{{ ${'('.repeat(20000)}1${')'.repeat(20000)} }}`, 'nested too deeply'],
])('a template with %s is refused', async (_what, template, reason) => {
  const folder = freshFolder()
  await writeTokenizer(folder, { 'tokenizer.json': makeByteLevel([]), 'tokenizer_config.json': { chat_template: template } })
  expect(read('chat', folder).error).toMatchObject({ code: 'invalid', message: expect.stringContaining(reason) })
})

test('a head of two thousand million dimensions is refused before anything is made of that size', async () => {
  expect(read('describe', await modelFolder({ head_dim: 2147483648 })).error).toMatchObject({
    code: 'invalid',
    message: expect.stringContaining('at most 65,536 are allowed'),
  })
})

test('a pattern that matches for ever ends the process, with the limit in the error', async () => {
  const pattern = { type: 'Split', pattern: { Regex: '(a+)+$' }, behavior: 'Isolated', invert: false }
  const folder = freshFolder()
  await writeTokenizer(folder, { 'tokenizer.json': makeByteLevel([], { pre_tokenizer: pattern }) })
  const { error } = read('encode', folder, `${'a'.repeat(60)}!`)
  expect(error?.code).toBe('invalid')
  expect(error?.message).toMatch(/tokenizer\.json takes more than 3 seconds of processor time to read, the limit for a file of this size/)
})

test('replacements that grow a text without end end the process before the memory is full', async () => {
  const normalizers = Array.from({ length: 40 }, () => ({ type: 'Replace', pattern: { String: 'a' }, content: 'aaaa' }))
  const folder = freshFolder()
  await writeTokenizer(folder, { 'tokenizer.json': makeByteLevel([], { normalizer: { type: 'Sequence', normalizers } }) })
  expect(read('encode', folder, 'aaaa').error).toMatchObject({
    code: 'invalid',
    message: expect.stringMatching(/takes more than (\d+ MB of memory|\d+ seconds of processor time)|cannot/),
  })
})

test('a packed file that unpacks to more than a hundred times its size is refused', () => {
  const file = join(scratch, 'bomb.json.gz')
  writeFileSync(file, gzipSync(Buffer.alloc(200_000_000, 32)))
  const { error, value } = read('windows', file)
  expect(value).toBeUndefined()
  expect(error).toMatchObject({
    code: 'invalid',
    message: expect.stringMatching(/unpacks to more than 64,000,000 bytes, the limit for its size/),
  })
})

test('lists of millions of values in a gguf header are refused', () => {
  const file = join(scratch, 'lists.gguf')
  const bytes = Buffer.concat([
    makeGguf({ metadata: { 'general.architecture': text('llama'), long: integers([]) }, tensors: [] }),
    Buffer.alloc(17_000_000),
  ])
  // The key is followed by the types of list and value, then the number of values.
  bytes.writeBigUInt64LE(4_000_001n, bytes.indexOf('long') + 'long'.length + 8)
  writeFileSync(file, bytes)
  expect(read('describe', file).error?.message).toContain('its lists have more than 4,000,000 values')
})

test('a line of a hundred million characters is refused, with what to do', () => {
  const file = join(scratch, 'line.jsonl')
  writeFileSync(file, `"${'x'.repeat(100_000_010)}"`)
  expect(read('texts', file).error).toMatchObject({
    code: 'invalid',
    message: expect.stringContaining('line of more than 100,000,000 characters'),
  })
})

test('a key of ten million characters gives one clear error', () => {
  const folder = freshFolder()
  const header = Buffer.from(`{"${'\\\\"'.repeat(3_000_000)}": 5}`)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  writeFileSync(join(folder, 'config.json'), JSON.stringify(makeValidModel().config))
  writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([length, header]))
  const { error } = read('describe', folder)
  expect(error?.code).toBe('invalid')
  expect(error?.message.length).toBeLessThan(2500)
})
