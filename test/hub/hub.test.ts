import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import { type HubOptions, openHub } from '#hub/hub.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'
import { commit, type FakeHub, type FakeRepository, gitSha1, type SeenRequest, sha256, startFakeHub } from './fake-hub.ts'

const large = Buffer.from(Array.from({ length: 400_000 }, (_, index) => (index * 31 + (index >> 8)) % 256))
const config = Buffer.from('{"model_type":"llama"}')
const weightsBlob = join('models--owner--name', 'blobs', sha256(large))
const weights: HubFile = { kind: 'model', repository: 'owner/name', revision: 'main', path: 'model.safetensors' }
const configFile: HubFile = { ...weights, path: 'config.json' }

let folder: string
let fake: FakeHub
let repositories: Record<string, FakeRepository>

beforeEach(async () => {
  folder = scratchOfTest('hub')
  repositories = {
    'owner/name': { commit, files: { 'config.json': config, 'model.safetensors': large, 'tokenizer.json': Buffer.from('{}') } },
    'datasets/owner/texts': { commit, files: { 'en/part 1.json.gz': large } },
  }
  fake = await startFakeHub(repositories)
})

afterEach(() => fake.close())

function open(options: HubOptions = {}, environment: Record<string, string> = {}) {
  const full = { HF_ENDPOINT: fake.endpoint, HF_HOME: folder, ...environment }
  return openHub({ environment: full, cacheFolder: folder, attempts: 3, pauseSeconds: 0.01, idleSeconds: 30, ...options })
}

/** Fetches a file by a hub that is opened for it. */
const fetchOnce = async (file: HubFile): Promise<string> => (await open()).fetchFile(file)

const isBody = (request: SeenRequest) => request.method === 'GET' && request.server === 'store'
const isSmallBody = (request: SeenRequest) => request.method === 'GET' && request.path.endsWith('config.json')
const bodyRequests = (): SeenRequest[] => fake.seen.filter(isBody)

test('a file lands where the Python library looks for it: blob by hash, reference, relative link', async () => {
  const path = await fetchOnce(weights)
  expect(path).toBe(join(folder, 'models--owner--name', 'snapshots', commit, 'model.safetensors'))
  expect(readlinkSync(path)).toBe(join('..', '..', 'blobs', sha256(large)))
  expect(readFileSync(path).equals(large)).toBe(true)
  expect(readFileSync(join(folder, 'models--owner--name', 'refs', 'main'), 'utf8')).toBe(commit)
  await fetchOnce(configFile)
  expect(existsSync(join(folder, 'models--owner--name', 'blobs', gitSha1(config)))).toBe(true)
})

test('what the Python library left in the cache is used without a request', async () => {
  const snapshot = join(folder, 'datasets--owner--texts', 'snapshots', commit, 'en')
  await mkdir(snapshot, { recursive: true })
  await mkdir(join(folder, 'datasets--owner--texts', 'refs'))
  writeFileSync(join(folder, 'datasets--owner--texts', 'refs', 'main'), commit)
  writeFileSync(join(snapshot, 'x.parquet'), 'rows')
  const hub = await open()
  const file: HubFile = { kind: 'dataset', repository: 'owner/texts', revision: 'main', path: 'en/x.parquet' }
  expect(await hub.fetchFile(file)).toBe(join(snapshot, 'x.parquet'))
  expect(await hub.fetchFile({ ...file, revision: commit })).toBe(join(snapshot, 'x.parquet'))
  expect(fake.seen).toEqual([])
})

test('a file in a folder with a space in its name is fetched from a data set', async () => {
  const path = await (await open()).fetchFile({ kind: 'dataset', repository: 'owner/texts', revision: commit, path: 'en/part 1.json.gz' })
  expect(path).toBe(join(folder, 'datasets--owner--texts', 'snapshots', commit, 'en', 'part 1.json.gz'))
  expect(readlinkSync(path)).toBe(join('..', '..', '..', 'blobs', sha256(large)))
})

test('a transfer cut in the middle resumes where it stopped', async () => {
  fake.faults.push({ when: isBody, fault: { cutAfter: 100_000 } }, { when: isBody, fault: { cutAfter: 50_000 } })
  const path = await fetchOnce(weights)
  expect(readFileSync(path).equals(large)).toBe(true)
  expect(bodyRequests().map((request) => request.range)).toEqual([undefined, 'bytes=100000-', 'bytes=150000-'])
})

test('more cuts than attempts still end well as long as each brings bytes', async () => {
  fake.faults.push({ when: isBody, fault: { cutAfter: 60_000 }, times: 6 })
  const path = await (await open({ attempts: 2 })).fetchFile(weights)
  expect(readFileSync(path).equals(large)).toBe(true)
})

test('a part that an earlier program run left is resumed, a longer one thrown away', async () => {
  const partial = join(folder, `${weightsBlob}.incomplete`)
  await mkdir(join(folder, 'models--owner--name', 'blobs'), { recursive: true })
  writeFileSync(partial, large.subarray(0, 399_000))
  await fetchOnce(weights)
  expect(bodyRequests()[0]?.range).toBe('bytes=399000-')
  await rm(join(folder, 'models--owner--name'), { recursive: true })
  await mkdir(join(folder, 'models--owner--name', 'blobs'), { recursive: true })
  writeFileSync(partial, Buffer.concat([large, large]))
  const path = await fetchOnce(weights)
  expect(readFileSync(path).equals(large)).toBe(true)
  expect(existsSync(partial)).toBe(false)
})

test('a part with wrong bytes is found by its hash and fetched again', async () => {
  await mkdir(join(folder, 'models--owner--name', 'blobs'), { recursive: true })
  writeFileSync(join(folder, `${weightsBlob}.incomplete`), Buffer.alloc(200_000))
  const path = await fetchOnce(weights)
  expect(readFileSync(path).equals(large)).toBe(true)
})

test('a server without ranges, with wrong ranges or with 416 makes the file start over', async () => {
  for (const fault of [{ ignoreRange: true }, { wrongRange: true }, { status: 416 }] as const) {
    fake.faults.push({ when: isBody, fault: { cutAfter: 100_000 } }, { when: isBody, fault })
    const path = await fetchOnce(weights)
    expect(readFileSync(path).equals(large)).toBe(true)
    await rm(join(folder, 'models--owner--name'), { recursive: true })
  }
})

test('a server without ranges that always cuts ends in an error, not in a loop', async () => {
  fake.faults.push({ when: isBody, fault: { ignoreRange: true, cutAfter: 100_000 }, times: 50 })
  await expect(fetchOnce(weights)).rejects.toMatchObject({ code: 'unreachable' })
  expect(bodyRequests().length).toBeLessThan(8)
})

test('wrong content of the right length is never given its name, for sha256 and for git sha1', async () => {
  fake.faults.push({ when: isBody, fault: { body: Buffer.alloc(large.length, 1) }, times: 2 })
  await expect(fetchOnce(weights)).rejects.toThrow(/twice with a wrong hash/)
  expect(readdirSync(join(folder, 'models--owner--name', 'blobs'))).toEqual([])
  fake.faults.push({ when: isSmallBody, fault: { body: Buffer.alloc(config.length, 1) }, times: 2 })
  await expect(fetchOnce(configFile)).rejects.toThrow(/twice with a wrong hash/)
  fake.faults.push({ when: isSmallBody, fault: { body: Buffer.alloc(config.length, 1) } })
  expect(readFileSync(await fetchOnce(configFile)).equals(config)).toBe(true)
})

test('a body of another length than promised is refused', async () => {
  fake.faults.push({ when: isBody, fault: { body: Buffer.concat([large, Buffer.from('more')]) }, times: 9 })
  await expect(fetchOnce(weights)).rejects.toThrow(/should have 400000 bytes/)
  fake.faults.length = 0
  fake.faults.push({ when: isBody, fault: { body: large.subarray(0, 1000) }, times: 9 })
  await expect(fetchOnce(weights)).rejects.toMatchObject({ code: 'unreachable' })
})

test('a stalled transfer is ended after the idle time and resumed', async () => {
  fake.faults.push({ when: isBody, fault: { stallAfter: 70_000 } })
  const path = await (await open({ idleSeconds: 0.3, attempts: 100 })).fetchFile(weights)
  expect(readFileSync(path).equals(large)).toBe(true)
  expect(bodyRequests()[1]?.range).toBe('bytes=70000-')
})

test('429 waits as long as Retry-After says, 503 and 500 are tried again', async () => {
  const isHead = (request: SeenRequest) => request.method === 'HEAD'
  fake.faults.push(
    { when: isHead, fault: { status: 429, headers: { 'retry-after': '1' } } },
    { when: isHead, fault: { status: 503 } },
    { when: isBody, fault: { status: 500 } },
  )
  const started = performance.now()
  await fetchOnce(weights)
  expect(performance.now() - started).toBeGreaterThan(950)
  expect(fake.seen.map((request) => request.method)).toEqual(['HEAD', 'HEAD', 'HEAD', 'GET', 'GET', 'GET', 'GET'])
})

test('a server that stays busy gives a sentence with its status', async () => {
  fake.faults.push({ when: () => true, fault: { status: 429 }, times: 9 })
  await expect(fetchOnce(weights)).rejects.toThrow(/rate limit was reached \(429\)/)
  fake.faults.length = 0
  fake.faults.push({ when: () => true, fault: { status: 429, headers: { 'retry-after': '3600' } }, times: 9 })
  await expect(fetchOnce(weights)).rejects.toThrow(/429/)
})

test('the token goes to the hub and not to the server it redirects to', async () => {
  const owned = repositories['owner/name'] as FakeRepository
  owned.token = 'hf_secret'
  await (await open({}, { HF_TOKEN: 'hf_secret' })).fetchFile(weights)
  expect(fake.seen.filter((request) => request.server === 'hub').every((request) => request.authorization === 'Bearer hf_secret')).toBe(
    true,
  )
  expect(bodyRequests()).toHaveLength(1)
  expect(bodyRequests().every((request) => request.authorization === undefined)).toBe(true)
})

test('a redirect inside the hub keeps the token, a circular one ends', async () => {
  const owned = repositories['owner/name'] as FakeRepository
  owned.token = 'hf_secret'
  fake.faults.push({
    when: (request) => request.path.startsWith('/old'),
    fault: { redirect: '/owner/name/resolve/main/config.json' },
    times: 2,
  })
  const hub = await open({}, { HF_TOKEN: 'hf_secret' })
  expect(await hub.fetchFile({ ...configFile, repository: 'old/name' })).toContain('models--old--name')
  fake.faults.push({ when: () => true, fault: { redirect: '/again' }, times: 99 })
  await expect(hub.fetchFile({ ...configFile, repository: 'other/name' })).rejects.toThrow(/redirect loop/)
})

test('a redirect to something that is not http is refused', async () => {
  fake.faults.push({ when: () => true, fault: { redirect: 'file:///etc/passwd' }, times: 9 })
  await expect(fetchOnce(weights)).rejects.toThrow(/is refused/)
})

test('401, 403 and 404 each say what to do and are not tried again', async () => {
  const owned = repositories['owner/name'] as FakeRepository
  const hub = await open()
  await expect(hub.fetchFile({ ...weights, path: 'nothing.json' })).rejects.toThrow(/check the file name/)
  await expect(hub.fetchFile({ ...weights, revision: 'v9' })).rejects.toThrow(/the revision does not/)
  await expect(hub.fetchFile({ ...weights, repository: 'owner/none' })).rejects.toThrow(/owner\/none.*404/)
  owned.token = 'hf_secret'
  await expect(hub.fetchFile(weights)).rejects.toThrow(/401.*HF_TOKEN/)
  owned.gated = true
  await expect(hub.fetchFile(weights)).rejects.toThrow(/Accept its conditions/)
  expect(fake.seen).toHaveLength(5)
})

test('a server that is no hub is named as such', async () => {
  fake.faults.push({ when: () => true, fault: { headers: { 'x-linked-etag': '"../../evil"' } } })
  await expect(fetchOnce(weights)).rejects.toThrow(/Check HF_ENDPOINT/)
})

test('a hub that cannot be reached gives an error that names the file and the place to put it', async () => {
  const closed = createServer()
  await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
  const address = closed.address() as { port: number }
  await new Promise((resolve) => closed.close(resolve))
  const hub = await open({ attempts: 1 }, { HF_ENDPOINT: `http://127.0.0.1:${address.port}` })
  await expect(hub.fetchFile(weights)).rejects.toThrow(
    /model\.safetensors of owner\/name \(revision main\): .* The cache does not have it: .*models--owner--name/,
  )
  await expect(hub.fetchModel('owner/name')).rejects.toThrow(
    /config\.json, tokenizer\.json, model\.safetensors of owner\/name.*models--owner--name/,
  )
})

test('offline mode uses the cached files and requests nothing', async () => {
  await (await open()).fetchModel('owner/name')
  const asked = fake.seen.length
  const hub = await open({}, { HF_HUB_OFFLINE: '1' })
  expect(await hub.fetchModel('owner/name')).toContain(commit)
  await expect(hub.fetchModel('owner/other')).rejects.toThrow(/HF_HUB_OFFLINE is set/)
  expect(fake.seen).toHaveLength(asked)
})

test('a model is fetched with what it needs and nothing else', async () => {
  const owned = repositories['owner/name'] as FakeRepository
  Object.assign(owned.files, {
    'pytorch_model.bin': large,
    'original/consolidated.00.pth': large,
    'consolidated.safetensors': large,
    'README.md': config,
    'onnx/model.onnx': large,
  })
  const reports: Progress[] = []
  const path = await (await open()).fetchModel('owner/name', 'main', { report: (progress) => reports.push(progress) })
  expect(readdirSync(path).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json'])
  const total = large.length + config.length + 2
  expect(reports.at(-1)).toMatchObject({ done: total, total, unit: 'bytes' })
  expect(reports.every((report, index) => index === 0 || report.done >= (reports[index - 1]?.done ?? 0))).toBe(true)
  expect(await (await open()).findModel('owner/name')).toBe(path)
})

test('a model in shards without its single file is complete only with every shard', async () => {
  const index = { weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' } }
  const shards = { 'model-00001-of-00002.safetensors': large, 'model-00002-of-00002.safetensors': large.subarray(5) }
  const files = {
    'config.json': config,
    'tokenizer.json': config,
    'model.safetensors.index.json': Buffer.from(JSON.stringify(index)),
    ...shards,
  }
  repositories['owner/shards'] = { commit, files }
  const hub = await open()
  const path = await hub.fetchModel('owner/shards')
  expect(readdirSync(path)).toHaveLength(5)
  await rm(join(path, 'model-00002-of-00002.safetensors'))
  expect(await hub.findModel('owner/shards')).toBeUndefined()
})

test('a repository without safetensors says what it holds', async () => {
  repositories['owner/old'] = { commit, files: { 'config.json': config, 'pytorch_model.bin': large } }
  await expect((await open()).fetchModel('owner/old')).rejects.toThrow(/only pytorch_model\.bin/)
})

test('hostile file names from the server are refused before anything is written', async () => {
  const owned = repositories['owner/name'] as FakeRepository
  for (const name of ['../evil.safetensors', '..\\evil.json', 'C:evil.json', 'nul.json', 'tab\tname.json', 'name\u202e.json']) {
    const { 'model.safetensors': _, ...rest } = owned.files
    repositories['owner/evil'] = { commit, files: name.endsWith('safetensors') ? rest : owned.files, alsoListed: [name] }
    await expect((await open()).fetchModel('owner/evil'), name).rejects.toThrow(/not a safe name/)
  }
  expect(existsSync(join(folder, 'models--owner--evil'))).toBe(false)
  await expect((await open()).fetchFile({ ...weights, path: '../../x' })).rejects.toThrow(/not a safe name/)
  await expect((await open()).fetchFile({ ...weights, repository: '../x' })).rejects.toThrow(/not a name on the hub/)
  await expect((await open()).fetchFile({ ...weights, revision: '../x' })).rejects.toThrow(/not a revision/)
})

test('a disk without space is noticed before a byte is requested', async () => {
  const hub = await open({ measureFree: async () => 1000 })
  await expect(hub.fetchFile(weights)).rejects.toMatchObject({ code: 'disk' })
  expect(fake.seen.filter((request) => request.method === 'GET')).toEqual([])
})

test('a cancel stops at once and keeps the part, from which the next call resumes', async () => {
  fake.faults.push({ when: isBody, fault: { stallAfter: 90_000 } })
  const controller = new AbortController()
  const hub = await open()
  const part = join(folder, `${weightsBlob}.incomplete`)
  const isThere = () => lstatSync(part, { throwIfNoEntry: false })?.size === 90_000
  const cancelled = expect(hub.fetchFile(weights, { signal: controller.signal })).rejects.toMatchObject({ name: 'AbortError' })
  await expect.poll(isThere).toBe(true)
  controller.abort()
  await cancelled
  expect(isThere()).toBe(true)
  await hub.fetchFile(weights)
  expect(bodyRequests()[1]?.range).toBe('bytes=90000-')
})

test('the same file asked for twice at once is transferred once', async () => {
  const hub = await open()
  const other = await open()
  const paths = await Promise.all([hub.fetchFile(weights), other.fetchFile(weights)])
  expect(paths[0]).toBe(paths[1])
  expect(bodyRequests()).toHaveLength(1)
})

/** The lock of the weights, as the program with this number writes it. */
const lockText = (processId: number): string => JSON.stringify({ processId, host: hostname(), token: 'another', children: [] })

async function lockOfWeights(): Promise<string> {
  const locks = join(folder, '.locks', 'models--owner--name')
  await mkdir(locks, { recursive: true })
  return join(locks, `${sha256(large)}.espalier.lock`)
}

test.each([
  ['of a number that no process has', lockText(999999999), 0],
  ['of a number that is another process’s now', lockText(process.ppid), 61_000],
  ['of a number that is this process’s now', lockText(process.pid), 0],
  ['without a number', '', 4000],
])('a lock left by a program that died does not block: %s', async (_, content, age) => {
  const lock = await lockOfWeights()
  writeFileSync(lock, content)
  utimesSync(lock, new Date(), new Date(Date.now() - age))
  expect(existsSync(await fetchOnce(weights))).toBe(true)
})

test('a lock that another program holds is waited for, and what that one fetched is used', async () => {
  const lock = await lockOfWeights()
  writeFileSync(lock, lockText(process.ppid))
  setTimeout(() => {
    mkdirSync(join(folder, 'models--owner--name', 'blobs'), { recursive: true })
    writeFileSync(join(folder, weightsBlob), large)
    rmSync(lock)
  }, 200)
  expect(readFileSync(await fetchOnce(weights)).equals(large)).toBe(true)
  expect(bodyRequests()).toEqual([])
})

test('a name that moved to new weights is fetched again, and the old ones are used when the hub is down', async () => {
  const hub = await open({ attempts: 1 })
  await hub.fetchModel('owner/name')
  const owned = repositories['owner/name'] as FakeRepository
  owned.commit = 'beef'.padEnd(40, '0')
  fake.faults.push({ when: () => true, fault: { status: 503 } })
  expect(await hub.fetchModel('owner/name')).toContain(commit)
  expect(await hub.fetchModel('owner/name')).toContain(owned.commit)
  expect(bodyRequests()).toHaveLength(1)
})
