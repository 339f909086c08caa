import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { commands } from '#cli/commands/index.ts'
import { EspalierError } from '#contract/errors.ts'
import type { ApiEvent } from '#contract/events.ts'
import { printedAddress } from '#server/address.ts'
import { readTokenFrom } from '#server/guard/token.ts'
import { leaveNote, readNote, removeNote } from '#server/note.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { makeFakeDoor } from '../server/fake-door.ts'
import { type Running, runServer } from '../server/running.ts'

let server: Running
const folder = scratchFolder('cli')
const printed = { out: '', error: '' }

const run = (id: string, changes: object = {}) => ({
  id,
  name: `run ${id}`,
  status: 'done',
  method: '2ssp',
  model: { id: 'model-1', name: 'sample\u001b[31m' },
  seed: 0,
  nominal: 0.25,
  reached: 0.2471,
  createdAt: Date.UTC(2026, 0, 2, 3, 4),
  measures: [{ name: 'perplexity', dataset: 'wikitext2', value: 12.34567, best: 12.34567, unit: '' }],
  progress: null,
  ...changes,
})
const detail = {
  beginToken: null,
  ...run('run-1'),
  experiment: null,
  resolved: { norm: 2 },
  seconds: 75,
  device: 'cpu',
  problem: null,
  notes: '',
  repair: null,
  recovery: null,
  recoveryPoints: [],
  remarks: ['One tie.'],
  calibration: { source: '/texts/prose.txt', revision: null, sequenceLength: 256, windows: 32, seed: 1, hash: 'ab'.repeat(32) },
  evaluation: [],
  plan: {
    blocks: [
      { attention: 'removed', mlp: { kept: [0, 1] } },
      { attention: 'kept', mlp: 'removed' },
    ],
  },
}
const model = {
  id: 'model-1',
  name: 'sample',
  path: '/models/sample',
  present: true,
  bytes: 5_000_000,
  usedByRuns: 2,
  description: { family: 'llama', shape: { blocks: 4 }, parameters: { total: 1000 }, dtype: 'float32' },
}
const changed = (id: string, status: string): ApiEvent =>
  ({ name: 'run changed', data: { run: run(id, { status }) } }) as unknown as ApiEvent

beforeAll(async () => {
  server = await runServer(
    makeFakeDoor({
      'runs.query': () => ({
        total: 3,
        offset: 0,
        rows: [run('run-1'), run('run-2', { status: 'failed', reached: null, measures: [] })],
        counts: {},
      }),
      'runs.get': () => detail,
      'runs.log': () => ({ text: 'step 1\n', bytes: 7 }),
      'runs.cancel': () => ({ runs: [run('run-1', { status: 'cancelled' })] }),
      'runs.resume': () => ({ runs: [run('run-1', { status: 'queued' }), run('run-2', { status: 'queued' })] }),
      'runs.describe': () => ({ format: 'espalier run' }),
      'compare.table': () => ({ fileName: 'x.csv', type: 'text/csv', content: 'a,b\n1,2\n' }),
      'experiments.export': (input) => {
        if ((input as { id: string }).id !== 'grid-1') throw new EspalierError('not-found', 'No such experiment.')
        return { fileName: 'x.json', type: 'application/json', content: '{"format":"espalier experiment"}' }
      },
      'clusters.save': () => [],
      'models.list': () => [model, { ...model, id: 'model-2', name: 'twin' }, { ...model, id: 'model-3', name: 'twin' }],
      'models.get': () => model,
      'models.add': () => model,
      'models.remove': () => ({ undoUntil: 0 }),
      'models.download': () => ({
        id: 'transfer-1',
        name: 'owner/name',
        status: 'running',
        doneBytes: 0,
        totalBytes: 10,
        model: null,
        problem: null,
      }),
    }),
  )
})
afterAll(() => server.stop())

beforeEach(() => {
  printed.out = printed.error = ''
  server.door.asked.length = 0
  vi.stubEnv('ESPALIER_TOKEN', server.token)
  vi.spyOn(console, 'log').mockImplementation((text: string) => {
    printed.out += `${text}\n`
  })
  vi.spyOn(console, 'error').mockImplementation((text: string) => {
    printed.error += `${text}\n`
  })
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed.out += text
    return true
  })
})
afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
})

const at = () => ['--server', server.address]
/** Calls besides those that every command makes, and asks again when its events are connected. */
const asked = () => server.door.asked.filter(({ name }) => !['workbench.get', 'transfers.list'].includes(name))

test('runs list prints a table, passes the filters on and says what is not shown', async () => {
  expect(await commands.runs(['list', '--status', 'failed', '--status', 'done', '--search', '2ssp', '--limit', '2', ...at()])).toBe(0)
  const lines = printed.out.split('\n')
  expect(lines[0]).toMatch(/^ID +STATUS +METHOD +REMOVED +SEED +PERPLEXITY +MODEL/)
  expect(lines[1]).toMatch(/^run-1 +done +2ssp +24\.7 % +0 +12\.346 +sample\?\[31m +run run-1 +2026-01-02 03:04$/)
  expect(lines[2]).toMatch(/^run-2 +failed +2ssp +25 % +0 +- /)
  expect(printed.error).toContain('2 of 3 runs')
  expect(asked()[0]?.input).toEqual({
    search: '2ssp',
    conditions: [{ field: 'status', is: 'any of', value: ['failed', 'done'] }],
    archived: 'no',
    limit: 2,
  })
})

test('--json prints the result of the call', async () => {
  expect(await commands.runs(['list', '--json', ...at()])).toBe(0)
  expect(JSON.parse(printed.out)).toMatchObject({ total: 3, rows: [{ id: 'run-1' }, { id: 'run-2' }] })
})

test('runs show prints the plan, the measures and the log', async () => {
  expect(await commands.runs(['show', 'run-1', '--log', ...at()])).toBe(0)
  expect(printed.out).toContain('attention removed in 0; MLP removed in 1; MLP neurons kept: 2 (of 2 blocks)')
  expect(printed.out).toContain('24.7 % (requested: 25 %)')
  expect(printed.out).toContain('32 windows of 256 tokens of /texts/prose.txt, drawn with seed 1 (abababababab)')
  expect(printed.out).toMatch(/perplexity +wikitext2 +12\.34567/)
  expect(printed.out).toContain('took          1 min 15 s')
  expect(printed.out).toContain('step 1')
})

test('runs resume --wait ends with the last run, with 1 when one failed', async () => {
  const result = commands.runs(['resume', 'run-1', 'run-2', '--wait', ...at()])
  await expect.poll(() => asked().map(({ name }) => name)).toContain('runs.resume')
  const text = 'Waiting for 5.0 GB of memory: the run A holds 8.0 GB.'
  const waits = [
    { id: 'run-9', text: 'Another waits.' },
    { id: 'run-1', text },
  ]
  const telling = setInterval(() => {
    server.door.tell({ name: 'queue changed', data: { queue: { memoryWaits: waits } } } as unknown as ApiEvent)
    server.door.tell(changed('run-1', 'done'))
    server.door.tell(changed('run-2', 'failed'))
  }, 50)
  expect(await result).toBe(1)
  expect(printed.error.split(text), 'said once').toHaveLength(2)
  expect(printed.error).not.toContain('Another waits.')
  clearInterval(telling)
  expect(printed.error).toContain('run run-1: done')
  expect(printed.out).toMatch(/run-2 +failed/)
})

test('runs resume on a server returns at once, and so does cancel', async () => {
  expect(await commands.runs(['resume', 'run-1', ...at()])).toBe(0)
  expect(printed.out).toMatch(/run-1 +queued/)
  expect(await commands.runs(['cancel', 'run-1', ...at()])).toBe(0)
  expect(printed.out).toMatch(/run-1 +cancelled/)
})

test('runs export writes an experiment, a run’s description or a table, and overwrites nothing', async () => {
  expect(await commands.runs(['export', 'grid-1', ...at()])).toBe(0)
  expect(printed.out).toBe('{"format":"espalier experiment"}\n')
  printed.out = ''
  expect(await commands.runs(['export', 'run-1', ...at()])).toBe(0)
  expect(JSON.parse(printed.out)).toEqual({ format: 'espalier run' })
  const file = join(folder, 'table.csv')
  expect(await commands.runs(['export', 'run-1', 'run-2', '--format', 'csv', '--output', file, ...at()])).toBe(0)
  expect(await readFile(file, 'utf8')).toBe('a,b\n1,2\n')
  expect(await commands.runs(['export', 'run-1', '--format', 'csv', '-o', file, ...at()])).toBe(1)
  expect(printed.error).toContain('exists')
})

test('models add fetches a hub name and waits for its end', async () => {
  const telling = setInterval(() => {
    server.door.tell({
      name: 'transfer changed',
      data: {
        transfer: { id: 'transfer-1', name: 'owner/name', status: 'done', doneBytes: 10, totalBytes: 10, model: 'model-1', problem: null },
      },
    } as unknown as ApiEvent)
  }, 50)
  expect(await commands.models(['add', 'owner/name', '--revision', 'main', ...at()])).toBe(0)
  clearInterval(telling)
  expect(asked().map(({ name }) => name)).toEqual(['models.download', 'models.get'])
  expect(printed.out).toMatch(/model-1 +sample +llama/)
})

test('models list and remove; an unclear name is asked about', async () => {
  expect(await commands.models(['list', ...at()])).toBe(0)
  expect(printed.out).toContain('4.8 MiB')
  expect(await commands.models(['remove', 'sample', '--files', ...at()])).toBe(0)
  expect(asked().at(-1)).toEqual({ name: 'models.remove', input: { id: 'model-1', files: true } })
  expect(await commands.models(['remove', 'twin', ...at()])).toBe(2)
  expect(printed.error).toContain('model-2, model-3')
  expect(await commands.models(['remove', 'nothing', ...at()])).toBe(1)
})

test('models describe measures the begin token once, and says what is wrong with how texts begin', async () => {
  const shape = { blocks: 4, hidden: 8, heads: 2, keyValueHeads: 2, contextLength: 64 }
  const begins = { token: '<bos>', added: false }
  const described = {
    ...model,
    description: { ...model.description, format: 'gguf', shape, parameters: { total: 1000, stack: 900 }, tokenizer: '9 tokens', begins },
  }
  const figures = { without: 241.2, with: 45.67, windows: 4, sequenceLength: 256, measuredAt: 1 }
  let found: object = { ...described, beginFigures: null }
  server.door.answers['models.list'] = () => [found]
  server.door.answers['models.get'] = () => found
  server.door.answers['models.measureBegin'] = () => {
    found = { ...described, beginFigures: figures }
    return {
      id: 'transfer-2',
      kind: 'bench',
      name: 'Begin token',
      status: 'done',
      doneBytes: 0,
      totalBytes: null,
      model: null,
      problem: null,
    }
  }
  expect(await commands.models(['describe', 'sample', ...at()])).toBe(0)
  expect(asked().map(({ name }) => name)).toEqual(['models.list', 'models.measureBegin', 'models.get'])
  expect(printed.out).toContain('windows begin with <bos>: perplexity 45.67 with it, 241.2 without')
  expect(printed.out).toMatch(/needs <bos> before every text.*Set tokenizer\.ggml\.add_bos_token to true/)
  server.door.asked.length = 0
  expect(await commands.models(['describe', 'sample', '--json', ...at()])).toBe(0)
  expect(asked().map(({ name }) => name)).toEqual(['models.list', 'models.get'])
})

test.each([
  [['frobnicate'], 'Unknown subcommand "frobnicate"'],
  [['list', '--nothing'], '--nothing'],
  [['list', '--limit', 'many'], '--limit is "many"'],
  [['show'], 'missing'],
  [['show', 'run-1', 'run-2'], 'Unexpected argument'],
  [['export', 'run-1', '--format', 'pdf'], 'json, csv, markdown, latex'],
  [['constructor'], 'Unknown subcommand "constructor"'],
])('runs %j is a usage error', async (parameters, message) => {
  expect(await commands.runs(parameters)).toBe(2)
  expect(printed.error).toContain(message)
})

test('repair refuses one window, as --repair_samples does', async () => {
  expect(await commands.repair(['run-1', '--samples', '1'])).toBe(2)
  expect(printed.error).toContain('--samples is "1"; it must be a whole number from 2 to 1,000,000.')
})

test('cluster add takes the fewest GPUs and processors that a profile may have, and no fewer', async () => {
  const add = (...flags: string[]) => commands.cluster(['add', 'lab', '--folder', folder, ...flags, ...at()])
  expect(await add('--gpus', '0', '--cpus', '1')).toBe(0)
  expect(asked()).toMatchObject([{ name: 'clusters.save', input: { cluster: { gpus: 0, cpus: 1 } } }])
  expect(await add('--cpus', '0')).toBe(2)
  expect(printed.error).toContain('--cpus is "0"; it must be a whole number from 1 to 1,024.')
})

test('a missing server, or one that refuses the token, is reported in one line', async () => {
  expect(await commands.runs(['list', '--server', 'http://127.0.0.1:1/'])).toBe(1)
  expect(printed.error).toContain('does not answer')
  vi.stubEnv('ESPALIER_TOKEN', 'wrong')
  expect(await commands.runs(['list', ...at()])).toBe(1)
  expect(printed.error).toContain('401')
})

test('a token on the command line is refused, because every user can read it there', async () => {
  expect(await commands.runs(['list', '--server', printedAddress(server)])).toBe(2)
  expect(printed.error).toMatch(/list of processes.*--token-file FILE.*standard input.*ESPALIER_TOKEN.*ESPALIER_SERVER/)
  expect(printed.error).not.toContain(server.token)
})

test('the token comes from a file, from the environment, or from standard input', async () => {
  const file = join(folder, 'token')
  await writeFile(file, `${server.token}\n`, { mode: 0o600 })
  vi.stubEnv('ESPALIER_TOKEN', '')
  expect(await commands.models(['list', ...at()])).toBe(2)
  expect(printed.error).toContain('ESPALIER_TOKEN')
  expect(await commands.models(['list', ...at(), '--token-file', file])).toBe(0)
  vi.stubEnv('ESPALIER_SERVER', printedAddress(server))
  expect(await commands.models(['list'])).toBe(0)
  expect(await readTokenFrom(Readable.from([server.token.slice(0, 9), `${server.token.slice(9)}\n`, 'more']))).toBe(server.token)
  await expect(readTokenFrom(Readable.from(['short\n']))).rejects.toThrow('The token in standard input has 5 usable characters')
})

test('a server that works on the data folder is found by its note, which only its user can read', async () => {
  leaveNote(folder, server)
  expect(await readNote(folder)).toEqual({ address: server.address, token: server.token })
  expect(await commands.models(['list', '--data', folder])).toBe(0)
  expect(printed.out).toContain('model-1')
  await removeNote(folder)
  expect(await readNote(folder)).toBeUndefined()
})

test('the note of a server that is gone, or a broken note, is ignored', async () => {
  await writeFile(join(folder, 'server.json'), JSON.stringify({ address: 'http://127.0.0.1:1/', token: 'x', pid: 2 ** 30 }))
  expect(await readNote(folder)).toBeUndefined()
  await writeFile(join(folder, 'server.json'), '{"address":')
  expect(await readNote(folder)).toBeUndefined()
})

test('every command has a help text', async () => {
  for (const command of Object.values(commands)) {
    printed.out = ''
    expect(await command(['--help'])).toBe(0)
    expect(printed.out).toBe(`${command.help}\n`)
  }
})

test('worth prints each file with its rival and the verdict, and refuses an experiment that prunes two models', async () => {
  const file = (id: string, method: string, megabytes: number, perplexity: number, changes: object = {}) => ({
    ...run(id, {
      file: id,
      method,
      parameters: {},
      fingerprint: null,
      lineage: { model: 'model-1', content: null, pruned: false },
      calibration: null,
      evaluation: [{ source: 'prose', hash: 'windows' }],
    }),
    measures: [
      { name: 'size', dataset: '', value: megabytes * 1e6, unit: 'bytes' },
      {
        name: 'perplexity',
        dataset: 'prose',
        value: perplexity,
        unit: '',
        on: { hash: 'windows', count: 3 },
        losses: [-0.2, 0, 0.2].map((own) => Math.log(perplexity) + own + 1e-4 * own * perplexity),
      },
      { name: 'tokens per second', dataset: '', value: 4000 / perplexity, unit: '' },
    ],
    ...changes,
  })
  const runs = [file('dense Q3_K_M', 'dense', 94, 31.2, { parameters: { weights: 'Q3_K_M' } }), file('2SSP 25 %', '2ssp', 94.5, 38.9)]
  server.door.answers['experiments.get'] = () => ({})
  server.door.answers['compare.get'] = () => ({ baseline: null, runs })
  expect(await commands.worth(['exp-1', ...at()])).toBe(0)
  expect(printed.out).toMatch(/2SSP 25 % +94\.5 +38\.90 +- +dense Q3_K_M +×1\.25 \(1\.2\d to 1\.2\d\) +worse/)
  expect(printed.out).toContain('Do not prune: at 94 MB, dense Q3_K_M is better than 2SSP 25 %. Perplexity on prose: 31.2 against 38.9')
  printed.out = ''
  expect(await commands.worth(['exp-1', '--cost=tokens per second', ...at()])).toBe(0)
  expect(printed.out).toMatch(/TOKENS PER SECOND.*\n.*2SSP 25 % +103 /)
  expect(printed.out).toContain('at 128, dense Q3_K_M is better than 2SSP 25 %')
  expect(await commands.worth(['exp-1', '--cost=memory', ...at()])).toBe(2)
  expect(printed.error).toContain('"memory". Choose one of: "File size", "Tokens per second".')
  const other = (method: string) =>
    file('file', method, 9, 9, {
      model: { id: 'model-2', name: 'other' },
      lineage: { model: 'model-2', content: null, pruned: false },
    })
  const replaced = file('2SSP before', '2ssp', 94.5, 30, { createdAt: 0, lineage: { model: 'model-1', content: 'old', pruned: false } })
  server.door.answers['compare.get'] = () => ({ baseline: null, runs: [...runs, replaced] })
  expect(await commands.worth(['exp-1', ...at()])).toBe(0)
  expect(printed.error).toMatch(/^Left out: 1 pruned run of .*, before it was replaced\.$/m)
  printed.out = ''
  server.door.answers['compare.get'] = () => ({ baseline: null, runs: [...runs, other('dense')] })
  expect(await commands.worth(['exp-1', ...at()])).toBe(0)
  expect(printed.out).toContain('Do not prune: at 9 MB, other, file is better than 2SSP 25 %')
  server.door.answers['compare.get'] = () => ({ baseline: null, runs: [...runs, other('2ssp')] })
  expect(await commands.worth(['exp-1', ...at()])).toBe(1)
  expect(printed.error).toContain('prunes 2 models')
})
