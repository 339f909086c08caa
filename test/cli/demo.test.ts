import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execPath } from 'node:process'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'

const home = mkdtempSync(join(tmpdir(), 'espalier-demo-'))
afterAll(() => rmSync(home, { recursive: true }))

test('the demo prunes, repairs and compares the sample model, shows answers, writes a report and ends', async () => {
  const demo = join(import.meta.dirname, '../../src-main/cli/demo.ts')
  const { stdout } = await promisify(execFile)(execPath, [demo], { cwd: home, env: { ...process.env, ESPALIER_HOME: join(home, 'data') } })
  for (const part of ['The dense model', '2SSP 50 %', 'repaired', 'block  0  attention', 'Done in']) expect(stdout).toContain(part)
  expect(existsSync(join(home, 'espalier-demo.html'))).toBe(true)
})
