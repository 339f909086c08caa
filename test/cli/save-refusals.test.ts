import { mkdir, readdir, stat, statfs, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { parseAddress, printedAddress } from '#server/address.ts'
import { connectWorkbench, type RemoteWorkbench } from '#server/client.ts'
import { makeToken } from '#server/guard/token.ts'
import { type RunningServer, startServer } from '#server/server.ts'
import { makeValidModel, sizes, toSafetensors, writeParts } from '../engine/checkpoint/valid-model.ts'
import { changed, type UnsavableModel, unsavableModels } from '../engine/export/unsavable.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { type Opened, openedWorkbench } from '../services/opened.ts'
import { run } from './espalier.ts'

const home = scratchFolder('save-refusals')
beforeAll(async () => {
  await writeFile(
    join(home, 'windows.json'),
    JSON.stringify(Array.from({ length: 4 }, (_, i) => Array.from({ length: 16 }, (_, j) => i * 16 + j))),
  )
  for (const refusal of refusals) await refusal.make(folderOf(refusal))
})

const data = ['--calibration_data=windows.json', '--eval_data=windows.json', '--sequence_length=16', '--no_history']

/** Saves that every interface refuses: a format that cannot hold the model, or a place that cannot take it. */
interface Refusal extends UnsavableModel {
  readonly code: 'infeasible' | 'conflict' | 'disk'
  /** Where to save it, inside the folder of exports. */
  readonly place: (exports: string, model: string) => Promise<string>
  readonly replace?: true
}

const free = async (exports: string) => join(exports, 'out')

async function filled(exports: string): Promise<string> {
  await mkdir(join(exports, 'taken'), { recursive: true })
  await writeFile(join(exports, 'taken', 'file'), '')
  return join(exports, 'taken')
}

async function file(exports: string): Promise<string> {
  await mkdir(exports, { recursive: true })
  await writeFile(join(exports, 'file'), '')
  return join(exports, 'file')
}

const place = { make: changed('stories260k'), method: '2ssp', format: 'exact', code: 'conflict' } as const

/** Tokenizers of two kinds are tested with the formats: models that have them do not open. */
const refusals: readonly Refusal[] = [
  ...unsavableModels
    .filter(({ name }) => !name.startsWith('a tokenizer of'))
    .map((unsavable) => ({ ...unsavable, code: 'infeasible' as const, place: free })),
  { ...place, name: 'a folder that is not empty', place: filled, says: /taken exists and is not empty/ },
  { ...place, name: 'a file', place: file, says: /file exists and is a file. Choose another name/ },
  { ...place, name: 'a place inside a file', place: async (exports) => join(await file(exports), 'in'), code: 'disk', says: /is a file/ },
  { ...place, name: 'the place of the model itself', place: async (_, model) => model, replace: true, says: /contains the model itself/ },
  {
    ...place,
    name: 'the folder around the model',
    place: async (_, model) => dirname(model),
    replace: true,
    says: /contains the model itself/,
  },
  {
    ...place,
    name: 'a disk that is too small',
    method: 'shortgpt',
    make: largerThanItsDisk,
    place: free,
    code: 'disk',
    says: /needs .* MB, but its disk has .* MB left. Free some space/,
  },
]

/** One of each kind for the command line. It calls the same service that is tested with all formats and methods over HTTP. */
const oneOfEach = [...new Map(refusals.map((one) => [`${one.code} ${one.replace}`, one])).values()]

const folderOf = ({ name }: Refusal) => join(home, 'exports', `models-${name.replace(/\W+/g, '-')}`, 'model')

test('there are 25 refusals or more', () => {
  expect(refusals.length).toBeGreaterThanOrEqual(25)
})

describe('a model that cannot be saved that way', () => {
  it.each(oneOfEach)('is refused by the command before any window is computed: $name', async (refusal) => {
    const { method, format, ggufType, says, replace } = refusal
    const folder = await refusal.place(join(home, 'exports'), folderOf(refusal))
    const saving = [
      `--save=${folder}`,
      `--format=${format}`,
      ...(ggufType ? [`--gguf_type=${ggufType}`] : []),
      ...(replace ? ['--replace'] : []),
    ]
    const asked = [`--model=${folderOf(refusal)}`, `--pruning_method=${method}`, '--sparsity=0.3', ...data, ...saving]
    const { code, stderr, stdout } = await run(home, asked)
    expect(code, stderr).toBe(1)
    expect(stderr).toMatch(says)
    expect(stdout).toBe('')
    expect(await readdir(join(home, 'exports'))).not.toContain('out')
  })
})

describe('a model that cannot be saved that way, together with the dense one', () => {
  // The formats can hold its dense model.
  const refusal = refusals.find(({ method, code }) => method === 'slicegpt' && code === 'infeasible')
  it.each(['--dense', '--main_table_results'])('is refused before any window is computed with %s too', async (beside) => {
    if (!refusal) throw new Error('There is no refusal to try.')
    const saving = [`--save=${join(home, 'exports', 'out')}`, `--format=${refusal.format}`]
    const types = refusal.ggufType ? [`--gguf_type=${refusal.ggufType}`] : []
    const asked = [`--model=${folderOf(refusal)}`, `--pruning_method=${refusal.method}`, '--sparsity=0.3', ...data, ...saving, ...types]
    const { code, stderr, stdout } = await run(home, [...asked, beside])
    expect(code, stderr).toBe(1)
    expect(stderr).toMatch(refusal.says)
    expect(stdout).toBe('')
  })
})

describe('an impossible flag', () => {
  const wrong: [string, string[], number, RegExp][] = [
    ['an unknown format', ['--save=out', '--format=onnx'], 2, /--format is "onnx"; it must be one of exact, stock, gguf/],
    ['one unknown format of two', ['--save=out', '--format=stock,onnx'], 2, /--format is "onnx"/],
    ['an unknown type', ['--save=out', '--format=gguf', '--gguf_type=Q3_K'], 2, /--gguf_type is "Q3_K"; it must be one of F32, F16/],
    ['a type without its format', ['--save=out', '--format=stock', '--gguf_type=F16'], 2, /give --format=gguf too/],
    ['a format without a folder', ['--format=gguf'], 2, /give --save FOLDER too/],
    ['several plans', ['--save=out', '--sparsity=0.1'], 2, /--save needs one plan/],
  ]
  it.each(wrong)('is refused by the command: %s', async (_name, flags, expected, says) => {
    const { code, stderr } = await run(home, ['--model=sample', '--pruning_method=2ssp', '--sparsity=0.3', ...data, ...flags])
    expect(code, stderr).toBe(expected)
    expect(stderr).toMatch(says)
  })
})

describe('over HTTP', () => {
  let workbench: Opened
  let server: RunningServer
  let remote: RemoteWorkbench
  let exports: string
  beforeAll(async () => {
    workbench = await openedWorkbench({
      computeCommand: defaultComputeCommand(),
      modelPath: await referenceModel('stories260k'),
      writable: [home],
    })
    exports = join(workbench.folder, 'exports')
    await mkdir(exports, { recursive: true })
    const pages = join(home, 'pages')
    await mkdir(pages)
    const token = makeToken()
    server = await startServer({ door: workbench, pages, host: '127.0.0.1', port: 0, token })
    remote = await connectWorkbench(parseAddress(printedAddress({ ...server, token })))
  })
  afterAll(async () => {
    await remote.close()
    await server.close()
    await workbench[Symbol.asyncDispose]()
  })

  it.each(refusals)('the same is refused with its code: $name', async (refusal) => {
    const { name, method, format, ggufType, code, says, replace } = refusal
    const { id: model, path } = await remote.call('models.add', { path: folderOf(refusal), name })
    const types = ggufType ? { ggufTypes: [ggufType] } : {}
    const folder = await refusal.place(exports, path)
    const asked = { model, method, amount: { sparsity: 0.3 }, folder, formats: [format], replace: replace ?? false, ...types }
    await expect(remote.call('runs.checkSave', asked)).rejects.toMatchObject({ code, message: expect.stringMatching(says) })
    expect(await readdir(exports)).not.toContain('out')
  })

  it('unknown formats and types are refused with the list of known ones', async () => {
    const asked = { model: workbench.model.id, method: '2ssp', amount: { sparsity: 0.3 }, folder: join(exports, 'out') }
    await expect(remote.call('runs.checkSave', { ...asked, formats: ['onnx'] })).rejects.toMatchObject({ code: 'usage' })
    await expect(remote.call('runs.checkSave', { ...asked, formats: ['gguf'], ggufTypes: ['Q3_K'] })).rejects.toMatchObject({
      code: 'usage',
    })
    await expect(remote.call('runs.checkSave', { ...asked, formats: [] })).rejects.toThrow()
  })
})

/** A model of two blocks with a vocabulary larger than the whole disk. Its weights are sparse files. */
async function largerThanItsDisk(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  const { blocks, bsize } = await statfs(folder)
  const { config, tensors } = makeValidModel()
  const hidden = 1024
  const vocabulary = Math.ceil((blocks * bsize) / (2 * 4 * hidden))
  const larger = new Map([
    [sizes.hidden, hidden],
    [sizes.vocabulary, vocabulary],
  ])
  let begin = 0
  const header = Object.fromEntries(
    Object.entries(tensors).map(([name, { dtype, shape: small }]) => {
      const shape = small.map((size) => larger.get(size) ?? size)
      const end = begin + 4 * shape.reduce((a, b) => a * b, 1)
      const entry = { dtype, shape, data_offsets: [begin, end] }
      begin = end
      return [name, entry]
    }),
  )
  await writeParts(folder, { ...config, hidden_size: hidden, vocab_size: vocabulary }, toSafetensors(header, new Uint8Array()))
  const weights = join(folder, 'model.safetensors')
  await truncate(weights, (await stat(weights)).size + begin)
}
