import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { scratchFolder } from '../fixtures/scratch.ts'

const home = scratchFolder('demo')

test('the demo prunes, repairs and compares the sample model, shows answers, writes a report and ends', async () => {
  const demo = join(import.meta.dirname, '../../src-main/cli/demo.ts')
  const { stdout } = await promisify(execFile)(execPath, [demo], { cwd: home, env: { ...process.env, ESPALIER_HOME: join(home, 'data') } })
  for (const part of ['The dense model', '2SSP 50 %', 'repaired', 'block  0  attention', 'Done in']) expect(stdout).toContain(part)
  expect(existsSync(join(home, 'espalier-demo.html'))).toBe(true)
})
