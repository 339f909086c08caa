import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { findNode24, majorOf, refuseOldNode, root } from '../../src-main/runtime/node24.mjs'
import { openWindow, refuseWindow } from '../../src-main/setup/electron.mjs'
import { matchesLock } from '../../src-main/setup/packages.mjs'
import { addTallies, countTests, formatTally, oneTest } from '../../src-main/setup/tally.mjs'
import { announcedBytes } from '../../src-main/setup/tensorflow/python.mjs'
import { planRuntime } from '../../src-main/setup/tensorflow/runtime-plan.mjs'
import { requirementOf } from '../../src-main/setup/tensorflow/wheels.mjs'
import { scratchFolder } from './scratch.ts'

const linux = { platform: 'linux', arch: 'x64', hasGpu: false, hasPip: true, hasCompiler: true } as const

describe('which runtime is built', () => {
  test.each([
    ['Linux', linux, ['cpu tensorflow-cpu==2.21.0']],
    ['Linux with an NVIDIA GPU', { ...linux, hasGpu: true }, ['gpu tensorflow==2.21.0', 'cpu tensorflow-cpu==2.21.0']],
    ['Linux on Arm, where the GPU has no wheel', { ...linux, arch: 'arm64', hasGpu: true }, ['cpu tensorflow==2.21.0']],
    ['macOS', { ...linux, platform: 'darwin', arch: 'arm64' } as const, ['cpu tensorflow==2.21.0']],
    ['macOS on Intel, for which there is no wheel', { ...linux, platform: 'darwin' } as const, []],
    ['Windows, whose wheel has no C library', { ...linux, platform: 'win32' } as const, []],
    ['another processor', { ...linux, arch: 'riscv64' }, []],
    ['no pip', { ...linux, hasPip: false }, []],
    ['no compiler', { ...linux, hasCompiler: false }, []],
  ])('%s', (_title, machine, expected) => {
    expect(planRuntime(machine).builds.map(({ kind, wheels }) => `${kind} ${Object.keys(wheels).map(requirementOf)[0]}`)).toEqual(expected)
  })

  test('CUDA comes with the GPU build only', () => {
    const wheels = planRuntime({ ...linux, hasGpu: true }).builds.map((build) => Object.keys(build.wheels))
    expect(wheels.map((files) => files.filter((name) => name.startsWith('nvidia_')).length)).toEqual([12, 0])
  })

  test('what is missing is named', () => {
    expect(planRuntime({ ...linux, hasPip: false, hasCompiler: false }).reason).toBe('Python with pip and a C++ compiler are missing.')
    expect(planRuntime({ ...linux, hasCompiler: false }).missing).toEqual({ pip: false, compiler: true })
    expect(planRuntime({ ...linux, platform: 'win32' }).reason).toContain('win32')
  })
})

describe('Node', () => {
  test.each(['12.22.1', '18.20.4', 'v19.0.0'])('%s is refused in a sentence', (version) => {
    expect(refuseOldNode(version)).toMatch(/setup needs Node 20 or later, but this is Node .*\. Install/)
  })
  test.each(['20.0.0', '22.12.0', '24.21.0', '26.1.0'])('%s may set up', (version) => {
    expect(refuseOldNode(version)).toBeUndefined()
  })
  test('what runs after set-up is Node 24', () => {
    expect(findNode24()).toBe(process.execPath)
    expect(majorOf(process.version)).toBe(24)
  })
})

describe('npm packages', () => {
  const lock = { '': {}, 'node_modules/a': { version: '1.0.0', integrity: 'x' }, 'node_modules/b': { version: '2.0.0', optional: true } }
  test.each([
    ['all there', { 'node_modules/a': { version: '1.0.0', integrity: 'x' }, 'node_modules/b': { version: '2.0.0' } }, true],
    ['an optional one of another platform left out', { 'node_modules/a': { version: '1.0.0', integrity: 'x' } }, true],
    ['another version', { 'node_modules/a': { version: '1.0.1', integrity: 'x' } }, false],
    ['another content', { 'node_modules/a': { version: '1.0.0', integrity: 'y' } }, false],
    ['one missing', {}, false],
  ])('%s', (_title, installed, expected) => {
    expect(matchesLock(lock, installed)).toBe(expected)
  })
})

describe('windows', () => {
  const root = { platform: 'linux', env: { DISPLAY: ':0' }, userId: 0 } as const

  test.each([
    ['Linux without a display', { platform: 'linux', env: {}, userId: 1000 }, 'This machine has no display'],
    ['a user in X', { platform: 'linux', env: { DISPLAY: ':0' }, userId: 1000 }, undefined],
    ['a user in Wayland', { platform: 'linux', env: { WAYLAND_DISPLAY: 'wayland-0' }, userId: 1000 }, undefined],
    ['macOS', { platform: 'darwin', env: {}, userId: 501 }, undefined],
  ] as const)('%s', (_title, machine, expected) => {
    expect(refuseWindow([], machine)).toBe(expected)
  })

  test('root gets one only with a flag, and the message says what that costs', () => {
    expect(refuseWindow(['--port', '1'], root)).toMatch(/^Root gets no window.* npm start -- --no-sandbox\. That removes the sandbox/)
    expect(refuseWindow(['--no-sandbox'], root)).toBeUndefined()
    expect(refuseWindow(['--no-sandbox'], { ...root, env: {} })).toBe('This machine has no display')
  })

  const noWindow = 'Electron could not open a window.'
  test.runIf(process.platform === 'linux').each([
    ['no sandbox', [], 'kill -TRAP $$', undefined, `${noWindow} To open one anyway: npm start -- --no-sandbox`],
    ['an abort', [], 'kill -ABRT $$', undefined, `${noWindow} To open one anyway: npm start -- --no-sandbox`],
    ['an abort without a sandbox', ['--no-sandbox'], 'kill -TRAP $$', undefined, `${noWindow} The workbench is served`],
    ['a missing library', [], 'exit 127', undefined, `${noWindow} The workbench is served`],
    ['an interrupt', [], 'kill -INT $$', 130, ''],
    ['an end by its user', [], 'kill -TERM $$', 143, ''],
    ['a closed window', [], 'exit 0', 0, ''],
  ] as const)('an Electron that ends at once, by %s', async (_title, args, body, code, expected) => {
    const electron = join(scratchFolder(), 'electron')
    writeFileSync(electron, `#!/bin/sh\nulimit -c 0\n${body}\n`, { mode: 0o755 })
    const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
    onTestFinished(() => write.mockRestore())
    expect(await openWindow(electron, [...args])).toBe(code)
    const said = write.mock.calls.map(([text]) => String(text)).join('')
    expect(said.replace(/^--no-sandbox: .*\n/, '')).toMatch(expected ? new RegExp(`^${expected}`) : /^$/)
  })
})

test("pip's announced sizes are added up", () => {
  expect(
    announcedBytes('Collecting a\n  Downloading a-1.whl (273.8 MB)\nDownloading b-1.whl.metadata (4.5 kB)\nDownloading c.whl (2.1 GB)'),
  ).toBeCloseTo(2373804500)
})

describe('the last lines', () => {
  type Files = Parameters<typeof countTests>[0]['testResults']
  const file = (status: string, ...assertionResults: Files[number]['assertionResults']) => ({
    name: join(root, 'test/a.test.ts'),
    status,
    message: 'Cannot find module\n  at b',
    assertionResults,
  })
  const passed = { status: 'passed', fullName: 'adds', failureMessages: [] }
  const failed = { status: 'failed', fullName: 'a sum adds', failureMessages: ['expected 3 to be 2\n  at c'] }
  const report = (testResults: Files) => ({ numPassedTests: 5, numPendingTests: 2, numTodoTests: 1, testResults })
  test.each([
    ['all passed', [file('passed', passed)], 0, []],
    ['one failed', [file('failed', passed, failed)], 1, ['test/a.test.ts: a sum adds: expected 3 to be 2']],
    ['a file that does not load', [file('failed')], 1, ['test/a.test.ts: Cannot find module']],
    ['an error outside every test', [file('passed', passed)], 1, ['vitest ended with 1, though no test failed']],
  ])('%s', (_title, files, code, failures) => {
    expect(countTests(report(files), code)).toEqual({ passed: 5, failed: failures.length, skipped: 3, failures })
  })

  test('name what failed and say all three counts, added up over the parts', () => {
    const parts = [oneTest(true, 'lint'), oneTest(false, 'types'), countTests(report([]), 0)]
    expect(formatTally(parts.reduce(addTallies))).toBe('FAILED types\n6 passed, 1 failed, 3 skipped')
  })
})
