import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { RunFile } from '#contract/clusters/run-file.ts'
import { runQuery } from '#contract/runs/runs.ts'
import { version } from '#contract/version.ts'
import { openHistory } from '#db/history.ts'
import { readRows } from '#engine/data/rows.ts'
import { readTexts } from '#engine/data/source.ts'
import { readWindows } from '#engine/data/windows.ts'
import { underLimits } from '#engine/limits/reading.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { readRunFile } from '#jobs/cluster/perform-run-file.ts'
import { type GgufFile, makeGguf, text, u32 } from '../engine/checkpoint/gguf/make-gguf.ts'
import { layOut, makeValidModel, toSafetensors, writeModelFiles } from '../engine/checkpoint/valid-model.ts'
import { makeByteLevel, writeTokenizer } from '../engine/tokenizer/make-tokenizer.ts'
import { mixtureAttacks } from './mixtures.ts'
import { mutateBytes, mutateJson, mutateTemplate } from './mutate.ts'
import type { Random } from './random.ts'

/** One kind of attack: it writes a damaged file into an empty folder and reads it as the program does. */
export interface Attack {
  write(folder: string, random: Random): Promise<void> | void
  read(folder: string): Promise<unknown>
}

const fixtures = join(import.meta.dirname, '..', 'fixtures')
const model = makeValidModel()
const { header, data } = layOut(model.tensors)
const half = Object.keys(model.tensors).length >> 1
const tokenizer = makeByteLevel(['Ġ t', 'h e', 'Ġt he'], { post_processor: { type: 'ByteLevel', trim_offsets: true } })
const sentencePiece = {
  added_tokens: [{ id: 0, content: '<s>', special: true }],
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'Prepend', prepend: '▁' },
      { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    ],
  },
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    special_tokens: { '<s>': { id: '<s>', ids: [0], tokens: ['<s>'] } },
  },
  pre_tokenizer: { type: 'Split', pattern: { Regex: '\\s+' }, behavior: 'Isolated', invert: false },
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  model: { type: 'BPE', vocab: { '<s>': 0, '▁': 1, a: 2, b: 3, '▁a': 4 }, merges: [['▁', 'a']], byte_fallback: true },
}
const settings = {
  bos_token: '<|end|>',
  eos_token: { content: '<|end|>' },
  clean_up_tokenization_spaces: true,
  chat_template: [{ name: 'default', template: '{{ messages[0].content }}' }],
}
const template =
  "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}{% elif message.role == 'system' %}{{ raise_exception('no') }}{% else %}{{ message['content'] ~ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'A: ' }}{% endif %}"
const layout = {
  format: 1,
  parent: 'x',
  method: '2ssp',
  blocks: [
    { attention: true, width: 12 },
    { attention: true, width: 12 },
  ],
  plan: {
    blocks: [
      { attention: 'kept', mlp: { kept: 'all' } },
      { attention: 'kept', mlp: { kept: 'all' } },
    ],
  },
}
const lines = [
  '{"text": "Once upon a time there was a dog."}',
  '"A line of text."',
  '{"content": "More text", "n": 5}',
  '{"text": null}',
  '',
].join('\n')
const fixture = (...names: string[]) => readFileSync(join(fixtures, ...names))
const parquets = ['gzip', 'snappy', 'zstd'].map((name) => fixture('texts', `seven.${name}.parquet`))
const arrows = ['data-00000-of-00002.arrow', 'data-00001-of-00002.arrow'].map((name) => fixture('texts', 'saved', name))
const gguf = fixture('gguf', 'blocks.gguf')

async function describeAndEncode(path: string): Promise<unknown> {
  const described = await describeModel(path)
  return [described, await useTokenizer(path)]
}

async function useTokenizer(path: string): Promise<unknown> {
  const opened = await openTokenizer(path)
  const ids = opened.encode('Once upon a time, aaaaaaaaaaaaaaaaaaaaaaaaaaaaa! 😀 the end')
  return [opened.decode(ids), opened.chats && opened.chat([{ role: 'user', content: 'Hello' }])]
}

/** Everything the program does with a text file: reads it as documents and as rows, and cuts it into windows. */
async function readData(file: string): Promise<unknown> {
  const first = await readTexts(file).catch((thrown) => thrown)
  const rows = await underLimits(file, () => Array.fromAsync(readRows(file))).catch((thrown) => thrown)
  const windows = await readWindows(file, undefined, { sequenceLength: 4 }).catch((thrown) => thrown)
  for (const outcome of [first, rows, windows]) if (outcome instanceof Error) throw outcome
  return first
}

const textAttack = (name: string, bytes: (random: Random) => Uint8Array): Attack => ({
  write: (folder, random) => writeFileSync(join(folder, name), bytes(random)),
  read: (folder) => underLimits(folder, () => readData(join(folder, name))),
})

const json = (value: unknown) => Buffer.from(JSON.stringify(value) ?? 'null')

async function wholeModel(folder: string): Promise<void> {
  await writeModelFiles(folder, model)
  await writeTokenizer(folder, { 'tokenizer.json': tokenizer, 'tokenizer_config.json': settings })
}

/** A valid folder with one damaged file. */
const modelAttack = (name: string, spoil: (random: Random) => Uint8Array): Attack => ({
  async write(folder, random) {
    await wholeModel(folder)
    writeFileSync(join(folder, name), spoil(random))
  },
  read: describeAndEncode,
})

const safetensors = toSafetensors(header, data)
const index = {
  metadata: {},
  weight_map: Object.fromEntries(Object.keys(header).map((name, i) => [name, `model-0000${i < half ? 1 : 2}-of-00002.safetensors`])),
}

/** Two shards and their index, damaged. */
const shards: Attack = {
  async write(folder, random) {
    await wholeModel(folder)
    rmSync(join(folder, 'model.safetensors'))
    const names = Object.entries(model.tensors)
    for (const [number, part] of [names.slice(0, half), names.slice(half)].entries()) {
      const placed = layOut(Object.fromEntries(part))
      writeFileSync(join(folder, `model-0000${number + 1}-of-00002.safetensors`), toSafetensors(placed.header, placed.data))
    }
    writeFileSync(
      join(folder, 'model.safetensors.index.json'),
      random.chance(0.5) ? json(mutateJson(index, random)) : mutateBytes(json(index), random),
    )
  },
  read: describeAndEncode,
}

/** A history with some rows, damaged inside its pages. */
function databaseAttack(source: Buffer): Attack {
  return {
    write: (folder, random) => writeFileSync(join(folder, 'history.sqlite'), mutateBytes(source, random)),
    async read(folder) {
      const history = openHistory(folder)
      try {
        const rows = history.queries.page(runQuery.parse({}))
        return [history.models.list(), history.experiments.list(true), rows, history.settings.get('settings'), history.queue.waiting()]
      } finally {
        history.close()
      }
    },
  }
}

const [headBytes, tailBytes] = [makeGguf(splitPart(0)), makeGguf(splitPart(1))]

/** One of two parts of a divided model, with a tensor and the fields that say which part it is. */
function splitPart(index: number): GgufFile {
  return {
    metadata: {
      ...(index === 0 ? { 'general.architecture': text('llama') } : {}),
      'split.no': u32(index),
      'split.count': u32(2),
      'split.tensors.count': u32(2),
    },
    tensors: [{ name: `blk.${index}.attn_norm.weight`, shape: [8], type: 0, bytes: Buffer.alloc(32) }],
  }
}

/** Bad parts: damaged, swapped, from another model, missing, or replaced by pipes and links. */
const divided: Attack = {
  write(folder, random) {
    const parts = [headBytes, tailBytes].map((bytes) => (random.chance(0.6) ? mutateBytes(bytes, random) : bytes))
    if (random.chance(0.1)) parts.reverse()
    if (random.chance(0.1)) parts[1] = gguf
    for (const [index, bytes] of parts.entries()) {
      const file = join(folder, `m-0000${index + 1}-of-0000${random.chance(0.05) ? 3 : 2}.gguf`)
      if (index === 1 && random.chance(0.05)) symlinkSync('/dev/zero', file)
      else if (!random.chance(0.05)) writeFileSync(file, bytes)
    }
  },
  read: (folder) => describeAndEncode(firstIn(folder)),
}

/** The first file of a folder, or the folder itself if it is empty. */
function firstIn(folder: string): string {
  const [first] = readdirSync(folder).sort()
  return first === undefined ? folder : join(folder, first)
}

/** Files of up to 4 GB that take no disk space: holes, and a line that never ends. */
const sparse: Attack = {
  write(folder, random) {
    const name = random.pick(['a.txt', 'a.jsonl', 'a.json', 'a.parquet', 'a.arrow', 'model.gguf', 'model.safetensors'])
    writeFileSync(join(folder, name), random.pick(['', '{"text": "', '["', 'GGUF', 'PAR1', 'ARROW1']))
    // A process does not return the memory of a case, so texts stay small enough not to distort the cases after it.
    truncateSync(join(folder, name), random.pick(/\.(txt|json|jsonl)$/.test(name) ? [1e6, 2e7] : [1e6, 4e9]))
    if (name === 'model.safetensors') writeFileSync(join(folder, 'config.json'), json(model.config))
  },
  read: (folder) => {
    const file = firstIn(folder)
    if (/config\.json$/.test(file)) return describeModel(folder)
    return file.endsWith('.gguf') ? describeAndEncode(file) : underLimits(folder, () => readData(file))
  },
}

/** 32 MB of one letter, and of lines of it, compressed; a gzip file may have several members. */
const packed = gzipSync(Buffer.alloc(32_000_000, 'a'))
const packedLines = gzipSync(Buffer.alloc(32_000_000, `"${'a'.repeat(1000)}"\n`))

/** The request that a cluster's node reads. */
const asked: RunFile = {
  format: 'espalier run request',
  formatVersion: 1,
  run: 'run-x',
  version,
  request: {
    model: '/models/tiny',
    method: '2ssp',
    amount: { sparsity: 0.25 },
    options: { alpha: 1.5 },
    seed: 5,
    calibration: { source: 'sample', sequenceLength: 8, windows: 2 },
    measures: [],
    backend: 'auto',
  },
}

/** Every kind of file, by name. */
export function fileAttacks(database: Buffer): Record<string, Attack> {
  return {
    'safetensors bytes': modelAttack('model.safetensors', (random) => mutateBytes(safetensors, random)),
    'safetensors header': modelAttack('model.safetensors', (random) => toSafetensors(mutateJson(header, random), data)),
    'sharded index': shards,
    config: modelAttack('config.json', (random) =>
      random.chance(0.7) ? json(mutateJson(model.config, random)) : mutateBytes(json(model.config), random),
    ),
    'pruned layout': modelAttack('espalier.json', (random) =>
      random.chance(0.7) ? json(mutateJson(layout, random)) : mutateBytes(json(layout), random),
    ),
    tokenizer: modelAttack('tokenizer.json', (random) => json(mutateJson(random.pick<unknown>([tokenizer, sentencePiece]), random))),
    'tokenizer bytes': modelAttack('tokenizer.json', (random) => mutateBytes(json(tokenizer), random)),
    'tokenizer config': modelAttack('tokenizer_config.json', (random) => json(mutateJson(settings, random))),
    template: modelAttack('chat_template.jinja', (random) => Buffer.from(mutateTemplate(template, random))),
    gguf: {
      write: (folder, random) => writeFileSync(join(folder, 'model.gguf'), mutateBytes(gguf, random)),
      read: (folder) => describeAndEncode(join(folder, 'model.gguf')),
    },
    jsonl: textAttack('a.jsonl', (random) => mutateBytes(Buffer.from(lines), random)),
    json: textAttack('a.json', (random) => json(mutateJson([{ text: 'a' }, [1, 2, 3], 'b'], random))),
    'gzip of json': textAttack('a.json.gz', (random) => mutateBytes(gzipSync(lines), random)),
    'gzip bomb': textAttack('a.json.gz', (random) =>
      Buffer.concat(Array.from({ length: random.pick([1, 2]) }, () => random.pick([packed, packedLines]))),
    ),
    'divided gguf': divided,
    'sparse file': sparse,
    parquet: textAttack('a.parquet', (random) => mutateBytes(random.pick(parquets), random)),
    arrow: textAttack('a.arrow', (random) => mutateBytes(random.pick(arrows), random)),
    'saved data set': {
      write(folder, random) {
        cpSync(join(fixtures, 'texts', 'saved'), folder, { recursive: true })
        const state = join(folder, 'state.json')
        writeFileSync(state, json(mutateJson(JSON.parse(readFileSync(state, 'utf8')), random)))
      },
      read: (folder) => underLimits(folder, () => readTexts(folder)),
    },
    'run file': {
      write: (folder, random) =>
        writeFileSync(join(folder, 'run.json'), random.chance(0.7) ? json(mutateJson(asked, random)) : mutateBytes(json(asked), random)),
      read: async (folder) => readRunFile(join(folder, 'run.json')),
    },
    database: databaseAttack(database),
    ...mixtureAttacks,
  }
}

/** The bytes of a history that holds what was made through the workbench. */
export function historyBytes(folder: string): Buffer {
  mkdirSync(folder, { recursive: true })
  const history = openHistory(folder)
  for (let i = 0; i < 20; i++) history.settings.set(`key ${i}`, { value: 'x'.repeat(200) })
  history.db.pragma('wal_checkpoint(TRUNCATE)')
  history.close()
  return readFileSync(join(folder, 'history.sqlite'))
}
