import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test, vi } from 'vitest'

vi.mock('electron', () => import('./fake-electron.ts'))

import type { Session } from 'electron'
import { contentPolicy } from '#server/guard/content-policy.ts'
import { registerScheme, servePages } from '../../src-main/electron/pages.ts'
import { scratchFolder } from '../fixtures/scratch.ts'
import { FakeSession, protocol } from './fake-electron.ts'

const folder = scratchFolder('pages')
const session = new FakeSession()

beforeAll(async () => {
  await mkdir(join(folder, 'pages'))
  await writeFile(join(folder, 'pages', 'index.html'), '<!doctype html>')
  await writeFile(join(folder, 'secret.txt'), 'secret')
  await symlink(join(folder, 'secret.txt'), join(folder, 'pages', 'linked.txt'))
  servePages(session as unknown as Session, join(folder, 'pages'))
})

const get = (address: string, method = 'GET') => {
  const answer = session.protocol.schemes.get('espalier') as unknown as (request: { url: string; method: string }) => Promise<Response>
  return answer({ url: address, method })
}

test('the scheme is standard and secure, its scripts are compiled once, and it has no further privilege', () => {
  registerScheme()
  expect(protocol.registered).toEqual([{ scheme: 'espalier', privileges: { standard: true, secure: true, codeCache: true } }])
})

test('the page comes under the same policy as from the server', async () => {
  const page = await get('espalier://app/')
  expect([page.status, await page.text()]).toEqual([200, '<!doctype html>'])
  expect(page.headers.get('content-security-policy')).toBe(contentPolicy)
  expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8')
  expect(page.headers.get('x-content-type-options')).toBe('nosniff')
})

test.each([
  ['espalier://app/..%2fsecret.txt', 403],
  ['espalier://app/%2e%2e%2fsecret.txt', 403],
  ['espalier://app/linked.txt', 403],
  ['espalier://app/..%5csecret.txt', 400],
  ['espalier://app/%252e%252e%252fsecret.txt', 400],
  ['espalier://app/%00', 400],
  ['espalier://app//etc/passwd', 404],
  ['espalier://other/index.html', 403],
  ['espalier://app/nothing', 404],
])('%s gets %s', async (address, status) => {
  const answer = await get(address)
  expect(answer.status).toBe(status)
  expect(await answer.text()).not.toContain('secret')
})

test('pages are only read', async () => expect((await get('espalier://app/', 'POST')).status).toBe(405))
