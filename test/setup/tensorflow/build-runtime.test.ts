import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { findTrustProblem, trustedAddon } from '../../../src-main/runtime/trusted.mjs'
import { findDamage } from '../../../src-main/setup/tensorflow/runtime.mjs'
import { type FakeTools, makeFakeTools } from '../fake-tools.ts'
import { tensorflowFiles } from '../make-wheel.ts'
import { scratchFolder } from '../scratch.ts'

const script = join(import.meta.dirname, 'build-once.mjs')
const name = `tensorflow-2.21.0-cpu-${process.platform}-${process.arch}`

function start(cache: string, tools: FakeTools, environment: NodeJS.ProcessEnv = {}, hash: string[] = []): ChildProcess {
  const env = { ...process.env, ESPALIER_CACHE: cache, ...environment }
  return spawn(process.execPath, [script, tools.pip, tools.compiler, tools.node, ...hash], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
}

async function finish(child: ChildProcess): Promise<{ code: number; output: string }> {
  let output = ''
  child.stdout?.on('data', (chunk) => (output += chunk))
  child.stderr?.on('data', (chunk) => (output += chunk))
  const code = await new Promise<number>((resolve) => child.on('close', (ended) => resolve(ended ?? -1)))
  return { code, output }
}

async function build(cache: string, tools: FakeTools) {
  return finish(start(cache, tools))
}

/** An archive with one changed byte in its first file. */
function flipped(archive: Buffer): Buffer {
  const changed = Buffer.from(archive)
  const at = archive.indexOf('tensorflow/libtensorflow_cc.so.2') + 60
  changed.writeUInt8((changed.readUInt8(at) + 1) % 256, at)
  return changed
}

function scene() {
  const folder = scratchFolder()
  return { cache: join(folder, 'cache'), runtimes: join(folder, 'cache', 'runtime'), tools: makeFakeTools(join(folder, 'tools')) }
}

test('a runtime has the two libraries, the addon and a description that fits them, and nothing else is left', async () => {
  const { cache, runtimes, tools } = scene()
  expect(await build(cache, tools)).toMatchObject({ code: 0 })
  const folder = join(runtimes, name)
  expect(readdirSync(runtimes)).toEqual([name])
  expect(readdirSync(folder).sort()).toEqual(['lib', 'runtime.json', 'tfjs_binding.node'])
  expect(readdirSync(join(folder, 'lib')).sort()).toEqual(['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'])
  expect(readFileSync(join(folder, 'lib', 'libtensorflow_cc.so.2'), 'utf8')).toBe(tensorflowFiles['tensorflow/libtensorflow_cc.so.2'])
  expect(JSON.parse(readFileSync(join(folder, 'runtime.json'), 'utf8'))).toMatchObject({
    version: '2.21.0',
    kind: 'cpu',
    source: 'tensorflow_cpu-2.21.0-cp311-cp311-linux.whl 2.21.0',
  })
  expect(findDamage(folder)).toBeUndefined()
})

test('after a kill while compiling, the next build resumes there and downloads nothing again', async () => {
  const { cache, runtimes, tools } = scene()
  const child = start(cache, tools, { SLOW_COMPILER: 'yes' })
  const killAll = () => child.pid && process.kill(-child.pid, 'SIGKILL')
  onTestFinished(() => void (child.exitCode === null && child.signalCode === null && killAll()))
  while (tools.count('compiler') === 0) await pause(20)
  killAll()
  await new Promise((resolve) => child.on('close', resolve))
  expect(existsSync(join(runtimes, name))).toBe(false)
  expect(await build(cache, tools)).toMatchObject({ code: 0 })
  expect({ pip: tools.count('pip'), compiler: tools.count('compiler') }).toEqual({ pip: 1, compiler: 2 })
  expect(findDamage(join(runtimes, name))).toBeUndefined()
})

test('a wheel that cannot be read is deleted, and the next build downloads it again', async () => {
  const { cache, runtimes, tools } = scene()
  const wheel = join(tools.folder, 'tensorflow_cpu-2.21.0-cp311-cp311-linux.whl')
  const whole = readFileSync(wheel)
  for (const broken of [whole.subarray(0, whole.length - 30), flipped(whole)]) {
    writeFileSync(wheel, broken)
    const failed = await build(cache, tools)
    expect(failed.code).toBe(1)
    expect(failed.output).toMatch(/tensorflow_cpu\S+ could not be read: .*(not a zip file|CRC|invalid|Bad)/)
    expect(readdirSync(runtimes)).toEqual([])
  }
  writeFileSync(wheel, whole)
  expect(await build(cache, tools)).toMatchObject({ code: 0 })
  expect(tools.count('pip')).toBe(3)
})

test('a build that does not work here leaves no runtime', async () => {
  const { cache, runtimes, tools } = scene()
  writeFileSync(tools.node, '#!/bin/sh\necho "Error: undefined symbol: TF_NewStatus" >&2\nexit 1\n')
  const { code, output } = await build(cache, tools)
  expect(code).toBe(1)
  expect(output).toContain('it does not run on this machine: Error: undefined symbol: TF_NewStatus')
  expect(readdirSync(runtimes)).toEqual([])
})

test('a compiler that fails is quoted, and what was downloaded stays', async () => {
  const { cache, tools } = scene()
  writeFileSync(tools.compiler, '#!/bin/sh\necho "x.cc:1:10: fatal error: string: No such file" >&2\nexit 1\n')
  expect((await build(cache, tools)).output).toContain('fatal error: string: No such file')
  await build(cache, tools)
  expect(tools.count('pip')).toBe(1)
})

test('a library cut short, or one of another binding, is noticed', async () => {
  const { cache, runtimes, tools } = scene()
  await build(cache, tools)
  const folder = join(runtimes, name)
  truncateSync(join(folder, 'lib', 'libtensorflow_cc.so.2'), 100)
  expect(findDamage(folder)).toBe('lib/libtensorflow_cc.so.2 has 100 bytes instead of 40000')
  const description = join(folder, 'runtime.json')
  writeFileSync(description, readFileSync(description, 'utf8').replace(/"binding": "[^"]+"/, '"binding": "1.0.0"'))
  expect(findDamage(folder)).toContain('its binding has version 1.0.0')
  writeFileSync(description, '{}')
  expect(findDamage(folder)).toBe('its description cannot be read')
})

test('a wheel with another hash is deleted and not unpacked, whether pip downloaded it or it was in the cache', async () => {
  const { cache, runtimes, tools } = scene()
  const wheels = join(runtimes, `.building-cpu-${process.platform}-${process.arch}`, 'wheels')
  for (const pips of [1, 2]) {
    const { code, output } = await finish(start(cache, tools, {}, ['00'.repeat(32)]))
    expect(code).toBe(1)
    expect(output).toMatch(/is not the expected wheel: its sha256 is [0-9a-f]{64}, not 0{64}/)
    expect(readdirSync(wheels)).toEqual([])
    expect(tools.count('pip')).toBe(pips)
  }
  writeFileSync(join(wheels, 'tensorflow_cpu-2.21.0-cp311-cp311-linux.whl'), 'swapped')
  expect((await build(cache, tools)).output).toContain('is not the expected wheel')
  expect(tools.count('pip')).toBe(2)
  expect(await build(cache, tools)).toMatchObject({ code: 0 })
})

test('the result of set-up can be written only by its user, whatever the umask was', async () => {
  const { cache, runtimes, tools } = scene()
  const before = process.umask(0)
  try {
    expect(await build(cache, tools)).toMatchObject({ code: 0 })
  } finally {
    process.umask(before)
  }
  expect(findTrustProblem(join(runtimes, name))).toBeUndefined()
  const addon = join(runtimes, name, 'tfjs_binding.node')
  expect(trustedAddon(join(runtimes, name), 'tfjs_binding.node')).toBe(addon)
  chmodSync(join(runtimes, name, 'lib'), 0o777)
  expect(findTrustProblem(join(runtimes, name))).toContain('lib can be written by other users')
  writeFileSync(addon, 'another')
  expect(trustedAddon(join(runtimes, name), 'tfjs_binding.node')).toBeUndefined()
})
