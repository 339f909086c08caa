import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { chooseScript, listScripts } from '../../src-main/setup/scripts.mjs'
import { scratchFolder } from './scratch.ts'

function makeFolder(): string {
  const folder = join(scratchFolder(), 'bench')
  mkdirSync(folder)
  writeFileSync(join(folder, 'main.ts'), '/** `npm run bench` */')
  writeFileSync(join(folder, 'heat-map.ts'), '/** Frames: `npm run bench -- heat-map [tokens]`. */')
  writeFileSync(join(folder, 'frames.ts'), '/** Counts frames. */\n// npm run bench -- frames is no header\n')
  return folder
}

test('a script is a file whose header shows its command', () => {
  expect(listScripts(makeFolder())).toEqual(['heat-map'])
})

test('a name chooses a script, and what follows is for it; flags alone are for main.ts', () => {
  const folder = makeFolder()
  expect(chooseScript(folder, ['heat-map', '--quick', '12'])).toEqual([join(folder, 'heat-map.ts'), '--quick', '12'])
  expect(chooseScript(folder, ['--quick', '12'])).toEqual([join(folder, 'main.ts'), '--quick', '12'])
  expect(chooseScript(folder, [])).toEqual([join(folder, 'main.ts')])
  expect(chooseScript(join(folder, 'main.ts'), ['folder'])).toEqual([join(folder, 'main.ts'), 'folder'])
})

test.each(['frames', 'nothing', '../main'])('"%s" is refused with the names that there are', (name) => {
  expect(() => chooseScript(makeFolder(), [name])).toThrow(`npm run bench has no script "${name}". Choose heat-map, or give no name.`)
})
