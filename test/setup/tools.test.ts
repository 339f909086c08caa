import { spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { runTool } from '../../src-main/setup/tools.mjs'
import { scratchFolder } from './scratch.ts'

const toolsModule = new URL('../../src-main/setup/tools.mjs', import.meta.url).href

/** A process that runs `body` as a script, as the commands do. */
function startParent(folder: string, body: string) {
  const script = join(folder, 'script.mjs')
  writeFileSync(script, body)
  const code = `import { runScript } from ${JSON.stringify(toolsModule)}; process.exitCode = await runScript(process.execPath, [${JSON.stringify(script)}])`
  return spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'pipe', 'pipe'] })
}

const waiting = (log: string) => `import { writeFileSync } from 'node:fs'
process.on('SIGINT', () => process.exit(130))
setInterval(() => undefined, 1000)
writeFileSync(${JSON.stringify(log)}, String(process.pid))`

async function waitFor(condition: () => boolean) {
  while (!condition()) await pause(20)
}

function isRunning(processId: number) {
  try {
    process.kill(processId, 0)
    // An ended process is listed until its new parent has waited for it.
    return !/^State:\s+Z/m.test(existsSync(`/proc/${processId}/status`) ? readFileSync(`/proc/${processId}/status`, 'utf8') : '')
  } catch {
    return false
  }
}

test("a command has its script's exit code", async () => {
  const parent = startParent(scratchFolder(), 'process.exitCode = 3')
  expect(await new Promise((resolve) => parent.on('close', resolve))).toBe(3)
})

test('an interrupt reaches the script, whose exit code is kept', async () => {
  const folder = scratchFolder()
  const log = join(folder, 'log')
  const parent = startParent(folder, waiting(log))
  await waitFor(() => existsSync(log))
  parent.kill('SIGINT')
  expect(await new Promise((resolve) => parent.on('close', resolve))).toBe(130)
})

test('a script ends when its command is killed, so that the next one does not meet it', async () => {
  const folder = scratchFolder()
  const log = join(folder, 'log')
  const parent = startParent(folder, waiting(log))
  await waitFor(() => existsSync(log) && readFileSync(log, 'utf8') !== '')
  const script = Number(readFileSync(log, 'utf8'))
  parent.kill('SIGKILL')
  await expect.poll(() => isRunning(script)).toBe(false)
})

test('a script that has nothing left to do ends, although it is watched', async () => {
  const parent = startParent(scratchFolder(), 'await new Promise((resolve) => setTimeout(resolve, 50))')
  expect(await new Promise((resolve) => parent.on('close', resolve))).toBe(0)
})

test('a program that is missing, or takes too long, gives a code and no crash', async () => {
  expect((await runTool('/no/such/program', [])).code).toBe(127)
  expect((await runTool(process.execPath, ['-e', 'setInterval(() => 0, 1000)'], { seconds: 0.3 })).code).toBe(124)
})
