import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { CallApi } from '#contract/api.ts'
import { toErrorMessage } from '#contract/errors.ts'
import { connectWorkbench } from '#server/client.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { patience } from '../patience.ts'
import { endProgram, killPrograms, type Started, startProgram } from '../server/started.ts'
import { runEnded } from '../services/opened.ts'
import { run } from './espalier.ts'

/** Impossible requests, through the command line and over HTTP: both refuse them before computing any window, a server within two seconds. */
interface Refusal {
  name: string
  flags: (places: Places) => string[]
  /** The request over HTTP. */
  ask: (call: CallApi, ids: Ids, places: Places) => Promise<unknown>
  says: RegExp
  /** The flag of the command line that the message names. */
  flag: RegExp
}

interface Places {
  home: string
  model: string
  bare: string
}
interface Ids {
  model: string
  bare: string
  /** A finished run to save. */
  run: string
}

const text = 'Once upon a time there was a little girl who loved to play. '.repeat(60)
const offline = { HF_ENDPOINT: 'http://127.0.0.1:9' }
const length = '--sequence_length=64'
const prune = ['--pruning_method=2ssp', '--sparsity=0.5', length]
const local = ({ home }: Places) => `--calibration_data=${join(home, 'text.txt')}`

const request = ({ home }: Places) => ({
  method: '2ssp',
  amount: { sparsity: 0.5 },
  options: {},
  seed: 0,
  calibration: { source: join(home, 'text.txt'), sequenceLength: 64 },
  measures: [],
  backend: 'auto' as const,
})

// biome-ignore format: what is asked stays on a line
const refusals: Refusal[] = [
  {
    name: 'a data set that is not here and cannot be fetched',
    flags: ({ model }) => ['--model', model, ...prune],
    ask: (call, { model }, places) =>
      call('runs.create', { model, request: { ...request(places), calibration: { source: 'c4-train', sequenceLength: 64 } } }),
    says: /c4-train\S*\.json\.gz of allenai\/c4.*connect and try again/,
    flag: /--calibration_data, --local_datasets/,
  },
  {
    name: 'questions that are not here and cannot be fetched',
    flags: (places) => ['--model', places.model, ...prune, local(places), '--tasks=piqa'],
    ask: (call, { model }, places) => call('runs.create', { model, request: { ...request(places), measures: [{ kind: 'tasks', tasks: ['piqa'] }] } }),
    says: /of baber\/piqa|piqa.*connect and try again/,
    flag: /--task_folder/,
  },
  {
    name: 'a model without tokenizer and a text',
    flags: (places) => ['--model', places.bare, ...prune, local(places)],
    ask: (call, { bare }, places) => call('runs.create', { model: bare, request: request(places) }),
    says: /tokenizer\.json/,
    flag: /--calibration_data/,
  },
  {
    name: 'a folder that is not empty',
    flags: (places) => ['--model', places.model, ...prune, local(places), `--save=${join(places.home, 'full')}`],
    ask: (call, { run: id }) => call('runs.save', { id, formats: ['espalier'], folder: 'full' }),
    says: /full exists and is not empty/,
    flag: /--replace/,
  },
  {
    name: 'a folder that cannot be written',
    flags: (places) => ['--model', places.model, ...prune, local(places), `--save=${join(places.home, 'file', 'x')}`],
    ask: (call, { run: id }) => call('runs.save', { id, formats: ['espalier'], folder: 'file/x' }),
    says: /file is a file, not a folder/,
    flag: /--save/,
  },
  {
    name: 'a format that the plan cannot have',
    flags: (places) => ['--model', places.model, '--pruning_method=slicegpt', '--sparsity=0.25', length, local(places), `--save=${join(places.home, 'sliced')}`, '--format=stock'],
    ask: (call, { model }, { home }) => call('runs.checkSave', { model, method: 'slicegpt', formats: ['stock'], folder: join(home, 'data', 'exports', 'sliced') }),
    says: /shortcuts of a sliced model/,
    flag: /espalier/,
  },
  {
    name: 'too little memory',
    flags: (places) => ['--model', 'sample', ...prune, local(places), '--memory=1MB'],
    ask: (call, { model }, places) => call('runs.create', { model, request: { ...request(places), memoryBytes: 2 ** 14 } }),
    says: /too small/,
    flag: /--memory/,
  },
]

let places: Places
beforeAll(async () => {
  const home = await mkdtemp(join(tmpdir(), 'espalier-check-'))
  places = { home, model: await referenceModel('stories260k'), bare: await referenceModel('mistral-tiny') }
  await writeFile(join(home, 'text.txt'), text)
  for (const folder of [home, join(home, 'data', 'exports')]) {
    await mkdir(join(folder, 'full'), { recursive: true })
    await writeFile(join(folder, 'full', 'kept.txt'), '')
    await writeFile(join(folder, 'file'), '')
  }
  Object.assign(process.env, offline)
})
afterAll(async () => {
  killPrograms()
  for (const name of Object.keys(offline)) delete process.env[name]
  await rm(places.home, { recursive: true, force: true })
})

describe('the command line refuses', () => {
  test.each(refusals)('$name', async ({ flags, says, flag }) => {
    const { code, stderr, stdout } = await run(places.home, flags(places))
    expect(stderr).toMatch(says)
    expect(stderr).toMatch(flag)
    expect(stderr).not.toMatch(/Stage 1|Reading/)
    expect({ failed: code !== 0, stdout }).toEqual({ failed: true, stdout: '' })
  })

  test('and leaves nothing in the history', async () => {
    const { stdout: history } = await run(places.home, ['runs', 'list', '--json'])
    expect(JSON.parse(history)).toMatchObject({ total: 0 })
  })
})

describe('a server refuses', () => {
  let server: Started
  let door: Awaited<ReturnType<typeof connectWorkbench>>
  let ids: Ids
  beforeAll(async () => {
    server = await startProgram(join(places.home, 'data'))
    door = await connectWorkbench(server)
    const idOf = async (path: string) =>
      ((await door.call('models.list', {})).find((entry) => entry.path === path) ?? (await door.call('models.add', { path }))).id
    const [model, bare] = [await idOf(places.model), await idOf(places.bare)]
    const { id } = await door.call('runs.create', { model, request: { ...request(places), method: 'shortgpt' } })
    expect((await runEnded(door, id)).status).toBe('done')
    ids = { model, bare, run: id }
  })
  afterAll(async () => {
    await door.close()
    await endProgram(server, 'SIGTERM')
  })

  test.each(refusals)('$name', async ({ ask, says }) => {
    const asked = performance.now()
    const refused = await ask(door.call, ids, places).then(() => undefined, toErrorMessage)
    expect(refused?.message).toMatch(says)
    expect(refused?.message).not.toMatch(/(^|\s)--[a-z]/)
    expect((performance.now() - asked) / 1000).toBeLessThan(2 * patience)
    expect((await door.call('runs.query', {})).total, 'no run was made').toBe(1)
    expect(await door.call('transfers.list', {}), 'nothing was written').toEqual([])
  })
})
