import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { hostList } from '#server/guard/hosts.ts'
import { makeToken, readTokenFile } from '#server/guard/token.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('token')

async function tokenFile(content: string, mode = 0o600): Promise<string> {
  const file = join(folder, 'token')
  await writeFile(file, content)
  await chmod(file, mode)
  return file
}

test('a token file gives its first line', async () => {
  const token = makeToken()
  expect(await readTokenFile(await tokenFile(`${token}\n`))).toBe(token)
})

test.skipIf(process.platform === 'win32')('a token file that others can read is refused', async () => {
  await expect(readTokenFile(await tokenFile(makeToken(), 0o644))).rejects.toThrow('chmod 600')
})

test('short, empty and unusable tokens are refused, and a missing file says how to make one', async () => {
  await expect(readTokenFile(await tokenFile('short'))).rejects.toThrow('at least 32')
  await expect(readTokenFile(await tokenFile(''))).rejects.toThrow('at least 32')
  await expect(readTokenFile(await tokenFile(`${'a b'.repeat(20)}`))).rejects.toThrow('letters, digits')
  await expect(readTokenFile(join(folder, 'none'))).rejects.toThrow('openssl rand')
})

test('two tokens differ and fit a header, a protocol name and a fragment', () => {
  expect(makeToken()).not.toBe(makeToken())
  expect(makeToken()).toMatch(/^[\w-]{43}$/)
})

test('on loopback only the three loopback names are ours, beyond it the addresses of this machine and names given by hand', () => {
  expect([...hostList('127.0.0.1', 80)]).toEqual(['127.0.0.1:80', 'localhost:80', '[::1]:80'])
  const wide = hostList('0.0.0.0', 80, ['Box.lan', 'tunnel:9000'])
  expect([wide.has('box.lan:80'), wide.has('tunnel:9000'), wide.has('evil.example:80')]).toEqual([true, true, false])
})
