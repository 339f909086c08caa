import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openHistory } from '#db/history.ts'
import type { ServerAddress } from '#server/address.ts'
import { readNote } from '#server/note.ts'
import { insertTranscript } from '../db/rows.ts'
import { scratchFolder, scratchOfTest } from '../fixtures/scratch.ts'
import { endProgram, killPrograms, programEntry, type Started, startProgram } from './started.ts'

const folder = scratchFolder('process')
const start = (...flags: string[]) => startProgram(join(folder, 'data'), ...flags)

async function ask(server: ServerAddress, name: string, input: unknown): Promise<{ status: number; text: string }> {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${server.token}` }
  const response = await fetch(`${server.address}api/${name}`, { method: 'POST', headers, body: JSON.stringify(input) })
  return { status: response.status, text: await response.text() }
}

afterAll(() => killPrograms())

test.each(['SIGINT', 'SIGTERM'] as const)('%s ends it in order: exit code 0, its note gone, the next start well', async (signal) => {
  const server = await start()
  expect(await ask(server, 'workbench.get', {})).toMatchObject({ status: 200 })
  expect(await readNote(join(folder, 'data'))).toEqual({ address: server.address, token: server.token })
  expect((await stat(join(folder, 'data', 'server.json'))).mode & 0o777).toBe(0o600)
  expect(await endProgram(server, signal)).toBe(0)
  expect(await readNote(join(folder, 'data'))).toBeUndefined()
})

test('after a kill its note is ignored, and the next start has the same port and token, for open pages', async () => {
  const first = await start()
  await endProgram(first, 'SIGKILL')
  expect(await readNote(join(folder, 'data'))).toBeUndefined()
  const second = await start()
  expect({ address: second.address, token: second.token }).toEqual({ address: first.address, token: first.token })
  expect((await stat(join(folder, 'data', 'door.json'))).mode & 0o777).toBe(0o600)
  await endProgram(second, 'SIGTERM')
})

test('a kill under an open judging keeps its votes, and the next start shows the same pair', async () => {
  const data = join(folder, 'data')
  const history = openHistory(data)
  const transcript = insertTranscript(history, 3)
  history.close()
  const first = await startProgram(data)
  const judging = JSON.parse((await ask(first, 'judgings.start', { transcript, seed: 7 })).text)
  await ask(first, 'judgings.vote', { id: judging.id, pair: 0, vote: 'left' })
  const open = (await ask(first, 'judgings.vote', { id: judging.id, pair: 1, vote: 'tie' })).text
  await endProgram(first, 'SIGKILL')
  const second = await startProgram(data)
  expect((await ask(second, 'judgings.get', { id: judging.id })).text).toBe(open)
  const { list } = JSON.parse((await ask(second, 'judgings.result', { id: judging.id })).text)
  expect(list).toMatchObject([
    { pair: 0, vote: 'left' },
    { pair: 1, vote: 'tie' },
  ])
  await endProgram(second, 'SIGTERM')
})

test('the examples of the README run: curl finds no run, Python makes five', async () => {
  const place = scratchOfTest('examples')
  const server = await startProgram(join(place, 'data'))
  await ask(server, 'queue.pause', {})
  await writeFile(join(place, 'token'), `${server.token}\n`)
  const readme = await readFile(join(import.meta.dirname, '../../src-main/server/README.md'), 'utf8')
  const run = async (language: string, program: string, flag: string) => {
    const [, code = ''] = new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, 's').exec(readme) ?? []
    const own = code.replaceAll('http://127.0.0.1:8600/', server.address)
    return (await promisify(execFile)(program, [flag, own], { cwd: place })).stdout
  }
  expect(JSON.parse(await run('sh', 'sh', '-c'))).toMatchObject({ total: 0 })
  expect((await run('python', 'python3', '-c')).match(/'run-/g)).toHaveLength(5)
  expect(JSON.parse((await ask(server, 'queue.get', {})).text)).toMatchObject({ waiting: 5, paused: true })
  await endProgram(server, 'SIGTERM')
})

test('a kept token that others can read is replaced, and so is a kept port that is in use', async () => {
  const first = await start()
  await endProgram(first, 'SIGTERM')
  await chmod(join(folder, 'data', 'door.json'), 0o644)
  const second = await start()
  expect(second.token).not.toBe(first.token)
  await endProgram(second, 'SIGTERM')
  const taken = createServer().listen(Number(new URL(second.address).port), '127.0.0.1')
  await once(taken, 'listening')
  const third = await start()
  expect(third.address).not.toBe(second.address)
  expect(third.token).toBe(second.token)
  await endProgram(third, 'SIGTERM')
  taken.close()
})

test('beyond loopback it opens only with a token file, and warns', async () => {
  const refused = spawn(process.execPath, [programEntry, '--host', '0.0.0.0', '--data', join(folder, 'data')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const [said] = (await once(refused.stderr, 'data')) as [Buffer]
  expect(said.toString()).toContain('--token-file')
  await writeFile(join(folder, 'token'), 'a'.repeat(40), { mode: 0o600 })
  const server = await start('--host', '0.0.0.0', '--token-file', join(folder, 'token'))
  expect(server.token).toBe('a'.repeat(40))
  expect(server.printed()).toContain('not encrypted')
  await endProgram(server, 'SIGTERM')
})

describe('calls that name a file', () => {
  let server: Started
  beforeAll(async () => {
    await mkdir(join(folder, 'private'))
    await writeFile(join(folder, 'private', 'secret.txt'), 'the secret')
    await symlink(join(folder, 'private'), join(folder, 'data', 'exports')).catch(() => {})
    server = await start()
  })
  afterAll(async () => {
    await endProgram(server, 'SIGTERM')
  })

  const up = '../'.repeat(20)
  const grid = (save: object) => ({
    model: 'model-1',
    request: { method: '2ssp', amount: { sparsity: 0.25 }, options: {}, seed: 0, measures: [], backend: 'auto', ...save },
  })
  test.each([
    ['models.check', { path: '/etc/passwd' }],
    ['models.check', { path: `${up}etc/passwd` }],
    ['models.check', { path: 'x\u0000y' }],
    ['models.add', { path: '/etc' }],
    ['models.add', { path: `${up}etc`, mode: 'copy' }],
    ['files.browse', { folder: '/etc/passwd' }],
    ['files.browse', { folder: '/nothing\u0000' }],
    ['history.restore', { name: `${up}etc/passwd` }],
    ['history.restore', { name: '..' }],
    ['history.restore', { name: '.' }],
    ['runs.save', { id: 'run-1', formats: ['stock'], folder: `${up}tmp/espalier-out` }],
    ['runs.save', { id: '../../x', formats: ['stock'] }],
    ['runs.get', { id: `${up}etc/passwd` }],
    ['runs.log', { id: '../data/history' }],
    ['runs.create', grid({ save: { folder: `${up}tmp/espalier-out`, format: 'safetensors' } })],
    ['experiments.export', { id: '..' }],
    ['experiments.import', { content: '{"__proto__":{"admin":true}}' }],
    ['experiments.import', { content: JSON.stringify({ format: 'espalier experiment', plan: { slice: { tensors: '/etc/passwd' } } }) }],
    ['transcripts.export', { ids: ['../../etc/passwd'], format: 'json' }],
  ])('%s refuses %j', async (name, input) => {
    const { status, text } = await ask(server, name, input)
    expect([status, text]).toEqual([
      expect.toSatisfy((code: number) => [400, 404, 409, 422].includes(code)),
      expect.not.stringMatching(/root:|the secret/),
    ])
  })

  test.each([{ name: `${up}etc/passwd` }, { name: 'owner/name', revision: `${up}etc` }])(
    'a download of %j fails before anything is asked or written',
    async (input) => {
      const started = JSON.parse((await ask(server, 'models.download', input)).text) as { id: string }
      const statusOf = async () => {
        const transfers = JSON.parse((await ask(server, 'transfers.list', {})).text) as { id: string; status: string }[]
        return transfers.find(({ id }) => id === started.id)?.status ?? 'refused'
      }
      await expect.poll(statusOf).toMatch(/failed|refused/)
    },
  )

  test('nothing was written beside the data folder', async () => {
    expect((await readdir(folder)).sort()).toEqual(['data', 'private', 'token'])
    expect(await readdir(join(folder, 'private'))).toEqual(['secret.txt'])
  })
})
