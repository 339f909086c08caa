import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { EspalierError } from '#contract/errors.ts'
import { contentPolicy } from '#server/guard/content-policy.ts'
import { startServer } from '#server/server.ts'
import { makeFakeDoor } from './fake-door.ts'
import { type Running, runServer, send, sendCall } from './running.ts'

let server: Running

beforeAll(async () => {
  server = await runServer(
    makeFakeDoor({
      'models.list': () => [],
      'models.get': () => {
        throw new EspalierError('not-found', 'There is no model x.', { id: 'x' })
      },
      'runs.create': () => {
        throw new EspalierError('infeasible', 'Too much.')
      },
      'experiments.export': () => ({ fileName: 'größe 1.json', type: 'application/json', content: JSON.stringify('🌳'.repeat(200_000)) }),
    }),
  )
})
afterAll(() => server.stop())

test('a call gets its input and gives its output', async () => {
  const got = await sendCall(server, 'models.list', { a: 1 })
  expect([got.status, got.text, got.headers['cache-control']]).toEqual([200, '[]', 'no-store'])
  expect(server.door.asked.at(-1)).toEqual({ name: 'models.list', input: { a: 1 } })
})

test('an error keeps its code, its message and its details, and gets a fitting status', async () => {
  const got = await sendCall(server, 'models.get', { id: 'xxx' })
  expect(got.status).toBe(404)
  expect(JSON.parse(got.text)).toEqual({ code: 'not-found', message: 'There is no model x.', details: { id: 'x' } })
  expect((await sendCall(server, 'runs.create')).status).toBe(422)
})

test('the page comes without a token, compressed, under the strict policy, and is revalidated by its tag', async () => {
  const got = await send(server, { headers: { 'accept-encoding': 'gzip, br' } })
  expect(got.status).toBe(200)
  expect(gunzipSync(got.body).toString()).toContain('<title>Espalier</title>')
  expect(got.headers).toMatchObject({
    'content-security-policy': contentPolicy,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'cache-control': 'no-cache',
    vary: 'accept-encoding',
  })
  const again = await send(server, { headers: { 'accept-encoding': 'gzip', 'if-none-match': got.headers.etag ?? '' } })
  expect([again.status, again.body.length]).toEqual([304, 0])
})

test('built assets are kept for good, the plain and the compressed page have different tags', async () => {
  const asset = await send(server, { path: '/assets/main-4f2a.js' })
  expect(asset.headers['cache-control']).toContain('immutable')
  expect(asset.headers['content-type']).toContain('text/javascript')
  const [plain, zipped] = await Promise.all([send(server, {}), send(server, { headers: { 'accept-encoding': 'gzip' } })])
  expect(plain.headers.etag).not.toBe(zipped.headers.etag)
})

test('a page that was rebuilt is served at once', async () => {
  await writeFile(join(server.folder, 'pages', 'late.html'), 'old')
  expect((await send(server, { path: '/late.html' })).text).toBe('old')
  await writeFile(join(server.folder, 'pages', 'late.html'), 'newer')
  expect((await send(server, { path: '/late.html' })).text).toBe('newer')
})

test('a big export comes whole as a download', async () => {
  const got = await send(server, { path: '/exports/abc', headers: { authorization: `Bearer ${server.token}`, 'accept-encoding': 'gzip' } })
  expect(got.status).toBe(200)
  expect(JSON.parse(gunzipSync(got.body).toString())).toBe('🌳'.repeat(200_000))
  expect(got.headers['content-disposition']).toBe(`attachment; filename="gr__e_1.json"; filename*=UTF-8''gr%C3%B6%C3%9Fe%201.json`)
})

test('a port in use is explained', async () => {
  const again = startServer({ door: makeFakeDoor(), pages: server.folder, host: '127.0.0.1', port: server.port, token: 'x' })
  await expect(again).rejects.toThrow(`Port ${server.port} is in use.`)
})

test('closing ends an answer that never comes', async () => {
  const stuck = await runServer(makeFakeDoor({ 'models.list': () => new Promise(() => {}) }))
  const asked = sendCall(stuck, 'models.list').catch((error: Error) => error.message)
  await expect.poll(() => stuck.door.asked.length).toBe(1)
  await stuck.stop()
  expect(await asked).toMatch(/hang up|reset/)
})
