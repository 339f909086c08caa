import { beforeEach, expect, test, vi } from 'vitest'

vi.mock('electron', () => import('./fake-electron.ts'))
vi.mock('../../src-main/electron/start-window.ts', () => ({ startWindow: () => void started.push('window') }))

const started = vi.hoisted(() => [] as string[])

beforeEach(() => {
  vi.resetModules()
  started.length = 0
})

/** The fake as the program sees it; the mock has its own copy. */
async function fakeElectron() {
  const fake = (await import('electron')) as unknown as typeof import('./fake-electron.ts')
  fake.app.done.length = 0
  return fake
}

test('scheme, sandbox and hardening are set before the application is ready; dumps stay on this machine', async () => {
  const { app, crashReporter } = await fakeElectron()
  await import('../../src-main/electron/main.ts')
  await Promise.resolve()
  expect(app.done).toEqual(['scheme', 'sandbox', 'ready'])
  expect(app.listenerCount('web-contents-created')).toBe(1)
  expect(crashReporter.started).toEqual([{ uploadToServer: false, compress: true }])
  expect(started).toEqual(['window'])
})

test('a sandbox that the user turned off is not requested again, because no process would start', async () => {
  const { app } = await fakeElectron()
  app.switches['no-sandbox'] = ''
  await import('../../src-main/electron/main.ts')
  await Promise.resolve()
  expect(app.done).toEqual(['scheme', 'ready'])
})

test('a second program quits before it opens anything', async () => {
  const { app } = await fakeElectron()
  app.isFirst = false
  await import('../../src-main/electron/main.ts')
  expect([app.done, started]).toEqual([['quit'], []])
})
