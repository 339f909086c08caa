import { globSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { eventually } from '../eventually.ts'
import { commit, type FakeHub, startFakeHub } from '../hub/fake-hub.ts'
import { type Opened, openedWorkbench } from './opened.ts'

const large = Buffer.from(Array.from({ length: 400_000 }, (_, index) => (index * 31 + (index >> 8)) % 256))

let fake: FakeHub
let before: NodeJS.ProcessEnv

beforeEach(async () => {
  before = { ...process.env }
  const files = { 'config.json': Buffer.from('{}'), 'model.safetensors': large, 'tokenizer.json': Buffer.from('{}') }
  fake = await startFakeHub({ 'owner/name': { commit, files } })
  process.env.HF_ENDPOINT = fake.endpoint
})

afterEach(async () => {
  process.env = before
  await fake.close()
})

async function withCache(): Promise<Opened> {
  const workbench = await openedWorkbench()
  await workbench.call('settings.update', { folders: { cache: join(workbench.folder, 'cache') } })
  return workbench
}

const transferOf = async ({ call }: Opened, id: string) => (await call('transfers.list', {})).find((transfer) => transfer.id === id)

test('a downloaded model is in the library when its transfer is done', async () => {
  await using workbench = await withCache()
  const { id } = await workbench.call('models.download', { name: 'owner/name' })
  const ended = await eventually(async () => {
    const transfer = await transferOf(workbench, id)
    return transfer?.status !== 'running' && transfer
  }, 'the download')
  expect(ended).toMatchObject({ status: 'done', problem: null })
  expect(await workbench.call('models.get', { id: ended.model as string })).toMatchObject({
    name: 'owner/name',
    origin: 'downloaded',
    source: 'owner/name',
    present: true,
  })
})

test('a paused download resumes where it stopped, even after a restart', async () => {
  await using workbench = await withCache()
  fake.faults.push({ when: ({ server, method }) => server === 'store' && method === 'GET', fault: { stallAfter: 100_000 } })
  const { id } = await workbench.call('models.download', { name: 'owner/name' })
  const parts = () => globSync('**/*.incomplete', { cwd: workbench.folder }).map((part) => statSync(join(workbench.folder, part)).size)
  await eventually(() => parts().includes(100_000), 'the beginning of the large file')
  expect((await workbench.call('transfers.pause', { id })).status).toBe('paused')
  await using again = await workbench.reopened()
  expect(await transferOf(again, id)).toMatchObject({ status: 'paused', problem: null })
  await again.call('transfers.resume', { id })
  await eventually(async () => (await transferOf(again, id))?.status === 'done', 'the rest of the download')
  const last = fake.seen.filter(({ server, method }) => server === 'store' && method === 'GET').at(-1)
  expect(last?.range).toMatch(/^bytes=[1-9]/)
})

test('asking again for a model whose download was paused continues that download', async () => {
  await using workbench = await withCache()
  fake.faults.push({ when: ({ server, method }) => server === 'store' && method === 'GET', fault: { stallAfter: 100_000 } })
  const { id } = await workbench.call('models.download', { name: 'owner/name' })
  await eventually(() => fake.seen.some(({ server, method }) => server === 'store' && method === 'GET'), 'the large file')
  await workbench.call('transfers.pause', { id })
  await using again = await workbench.reopened()
  expect((await again.call('models.download', { name: 'owner/name', revision: 'main' })).id).not.toBe(id)
  expect((await again.call('models.download', { name: 'owner/name' })).id).toBe(id)
  await eventually(async () => (await again.call('transfers.list', {})).every(({ status }) => status !== 'running'), 'both downloads')
  expect(await again.call('transfers.list', {})).toMatchObject([{ status: 'done' }, { status: 'done' }])
})

test('a name that cannot be one on the hub is refused before anything begins', async () => {
  await using workbench = await withCache()
  for (const request of [{ name: '../..' }, { name: 'owner/../name' }, { name: 'owner/name', revision: '../main' }]) {
    await expect(workbench.call('models.download', request)).rejects.toMatchObject({ code: 'usage' })
  }
  expect(await workbench.call('transfers.list', {})).toEqual([])
})

test('a name that the hub does not have fails the transfer with a sentence', async () => {
  await using workbench = await withCache()
  const { id } = await workbench.call('models.download', { name: 'owner/missing' })
  const ended = await eventually(async () => {
    const transfer = await transferOf(workbench, id)
    return transfer?.status === 'failed' && transfer
  }, 'the failure')
  expect(ended.problem).toMatch(/owner\/missing/)
  expect((await workbench.call('models.list', {})).length).toBe(1)
})
