import { expect, test } from 'vitest'
import { currentSettings } from '../../../src-main/services/machine/current-settings.ts'

/** The settings that are read from a history that holds `saved`. */
function settingsOf(saved: object) {
  const folders = { models: '/models', exports: '/exports' }
  return currentSettings({ history: { settings: { get: () => saved } }, folders } as unknown as Parameters<typeof currentSettings>[0])
}

test('a value that this version does not accept affects no other setting', () => {
  const saved = { theme: 'dark', backend: 'webgpu', idleMinutes: 3, folders: { cache: '/cache' } }
  expect(settingsOf(saved)).toMatchObject({
    theme: 'dark',
    backend: 'auto',
    idleMinutes: 3,
    folders: { models: '/models', exports: '/exports', cache: '/cache' },
  })
})
