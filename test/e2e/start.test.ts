import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { env, execPath } from 'node:process'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { patience } from '../patience.ts'
import { launchBrowser } from './browser.ts'
import { eventually } from './eventually.ts'
import { timedMachine } from './timed-machine.ts'

let browser: Browser
let folder: string
let child: ChildProcess

beforeAll(async () => {
  ;[browser, folder] = await Promise.all([launchBrowser(), mkdtemp(join(tmpdir(), 'espalier-start-'))])
  await timedMachine(folder)
})

afterAll(async () => {
  child?.kill('SIGKILL')
  await browser?.close()
  await rm(folder, { recursive: true, force: true })
})

/** `npm start` where no window can open, with the flag of a window; gives the address that it prints. */
async function start(): Promise<string> {
  const { DISPLAY: _, WAYLAND_DISPLAY: __, ...environment } = env
  const script = join(import.meta.dirname, '../../src-main/setup/start.mjs')
  child = spawn(execPath, [script, '--no-sandbox', '--data', folder], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (said += String(chunk)))
  const printed = () => /http:\S+#token=\S+/.exec(said)?.[0] ?? ''
  return eventually(printed, Boolean, 100_000)
}

async function end(): Promise<void> {
  child.kill('SIGTERM')
  await once(child, 'exit')
}

test('npm start keeps port and token: a page that was left open goes on by itself after a restart', async () => {
  const first = await start()
  const page = await browser.newPage()
  page.setDefaultTimeout(30_000 * patience)
  await page.goto(first)
  await page.getByRole('heading', { name: 'Prune a first model' }).waitFor()
  await page.evaluate(() => Object.assign(window, { neverReloaded: true }))
  await end()
  const notice = page.getByText('Connection lost.', { exact: true })
  await notice.waitFor()
  expect(await start()).toBe(first)
  await notice.waitFor({ state: 'hidden' })
  await page.getByRole('navigation', { name: 'Screens' }).getByRole('link', { name: 'Settings' }).click()
  await page.getByText(folder).first().waitFor()
  expect(await page.evaluate(() => 'neverReloaded' in window)).toBe(true)
  await end()
})
