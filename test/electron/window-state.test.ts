import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { placeWindow, StoredState } from '../../src-main/electron/window-state.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'

const main = { x: 0, y: 24, width: 1440, height: 876 }
const second = { x: 1440, y: 0, width: 1920, height: 1080 }

test.each([
  ['the first time, in the middle of the main screen', null, [main], { x: 80, y: 32, width: 1280, height: 860 }],
  ['where it was', { x: 1500, y: 40, width: 1000, height: 700 }, [main, second], { x: 1500, y: 40, width: 1000, height: 700 }],
  [
    'on the main screen if its screen is gone',
    { x: 1500, y: 40, width: 1000, height: 700 },
    [main],
    { x: 220, y: 112, width: 1000, height: 700 },
  ],
  ['no larger than the main screen', { x: 9000, y: 0, width: 1900, height: 1000 }, [main], main],
  [
    'reachable: its title bar was above the screen',
    { x: 100, y: -60, width: 800, height: 600 },
    [main],
    { x: 320, y: 162, width: 800, height: 600 },
  ],
  ['reachable: only its corner was left', { x: 1400, y: 40, width: 800, height: 600 }, [main], { x: 320, y: 162, width: 800, height: 600 }],
  [
    'partly off the screen, as it was left',
    { x: -300, y: 40, width: 800, height: 600 },
    [main],
    { x: -300, y: 40, width: 800, height: 600 },
  ],
])('a window opens %s', (_title, last, screens, expected) => {
  expect(placeWindow(last, screens)).toEqual(expected)
})

test('what the window remembers survives a restart, and a damaged file counts as empty', () => {
  const folder = scratchOfTest('state')
  const file = join(folder, 'inside', 'window.json')
  const bounds = { x: 1, y: 2, width: 800, height: 600 }
  const stored = new StoredState(file)
  stored.change({ bounds, theme: 'dark' })
  stored.change({ recentModels: ['a'] })
  expect(new StoredState(file).value).toEqual({ bounds, maximized: false, theme: 'dark', saveFolder: null, recentModels: ['a'] })
  writeFileSync(file, '{"bounds":{"x":"left"},"theme":"pink","maximized":true')
  expect(new StoredState(file).value.bounds).toBeNull()
  writeFileSync(file, '{"bounds":{"x":"left"},"theme":"pink","maximized":true}')
  expect(new StoredState(file).value).toMatchObject({ bounds: null, theme: 'system', maximized: true })
})
