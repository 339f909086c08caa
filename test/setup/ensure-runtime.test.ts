import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { makeFakeTools } from './fake-tools.ts'
import { scratchFolder } from './scratch.ts'

const runtimeModule = new URL('../../src-main/setup/tensorflow/runtime.mjs', import.meta.url).href

/** Runs set-up's runtime step in a process that finds only the programs in `path`, with the fake tools' wheel as the pinned one. */
function ensure(cache: string, path: string, node = process.execPath) {
  mkdirSync(cache, { recursive: true })
  const tools = join(dirname(path), 'tools')
  const wheel = readdirSync(tools).find((name) => name.endsWith('.whl')) as string
  const cpu = {
    [wheel]: createHash('sha256')
      .update(readFileSync(join(tools, wheel)))
      .digest('hex'),
  }
  const pinned = { [`${process.platform}-${process.arch} cpu`]: cpu, 'linux-x64 gpu': { 'tensorflow-2.21.0-cp311-cp311-gpu.whl': '00' } }
  const code = `import { ensureRuntime } from ${JSON.stringify(runtimeModule)}; await ensureRuntime(${JSON.stringify(node)}, ${JSON.stringify(pinned)})`
  return spawnSync(process.execPath, ['--input-type=module', '-e', code], { env: { PATH: path, ESPALIER_CACHE: cache }, encoding: 'utf8' })
}

function scene() {
  const folder = scratchFolder()
  const path = join(folder, 'bin')
  const tools = makeFakeTools(join(folder, 'tools'))
  mkdirSync(path)
  for (const name of ['sh', 'cp', 'sleep']) symlinkSync(`/bin/${name}`, join(path, name))
  const install = (name: 'pip' | 'compiler') => symlinkSync(tools[name], join(path, name === 'pip' ? 'python3' : 'g++'))
  return { cache: join(folder, 'cache'), path, tools, install }
}

const findAddon = (cache: string) =>
  join(cache, 'runtime', `tensorflow-2.21.0-cpu-${process.platform}-${process.arch}`, 'tfjs_binding.node')

const slower = 'Espalier computes with ggml, which takes about 3 times as long'

test('without pip and compiler it says so, names the slower way, and continues', () => {
  const { cache, path } = scene()
  const { status, stderr } = ensure(cache, path)
  expect(status).toBe(0)
  expect(stderr).toContain(
    'TensorFlow is not used: Python with pip and a C++ compiler are missing. To fix this: install python3 with pip and g++',
  )
  expect(stderr).toContain(slower)
})

test('fused operations that do not work here are deleted, and not built again at every start', () => {
  const { cache, path, tools, install } = scene()
  install('pip')
  install('compiler')
  writeFileSync(
    tools.node,
    `#!/bin/sh\n[ -n "$3" ] && { echo 'Error: Known neurons came out as 1.' >&2; exit 1; }\necho '{"usesGpu":false}'\n`,
  )
  const { status, stderr } = ensure(cache, path, tools.node)
  expect(status).toBe(0)
  expect(stderr).toContain(
    'The fused operations could not be compiled: they do not run on this machine: Error: Known neurons came out as 1.',
  )
  expect(readdirSync(dirname(findAddon(cache))).filter((name) => name.startsWith('fused'))).toEqual([])
  expect(ensure(cache, path, tools.node).stderr).toBe('')
})

test.each([
  ['apt-get', 'apt-get install g++'],
  ['dnf', 'dnf install gcc-c++'],
  ['pacman', 'pacman -S gcc'],
])('with pip but no compiler, where %s installs things, it says `%s`', (manager, command) => {
  const { cache, path, tools, install } = scene()
  install('pip')
  symlinkSync(tools.compiler, join(path, manager))
  const { status, stderr } = ensure(cache, path)
  expect(status).toBe(0)
  expect(stderr).toContain('a C++ compiler is missing')
  expect(stderr).toContain(`${command}\``)
})

test('a pip that cannot download is quoted, and ggml is used', () => {
  const { cache, path, tools, install } = scene()
  install('pip')
  install('compiler')
  writeFileSync(tools.pip, '#!/bin/sh\n[ "$3" = --version ] && exit 0\necho "ERROR: Could not reach anything" >&2\nexit 1\n')
  const { status, stderr } = ensure(cache, path, tools.node)
  expect(status).toBe(0)
  expect(stderr).toContain('pip could not download tensorflow-cpu==2.21.0: Could not reach anything')
  expect(stderr).toContain(slower)
})

test.runIf(process.platform === 'linux' && process.arch === 'x64')(
  'with everything in place a second run does nothing and says nothing',
  () => {
    const { cache, path, tools, install } = scene()
    install('pip')
    install('compiler')
    expect(ensure(cache, path, tools.node).stderr).toContain('TensorFlow 2.21.0 for the CPU is in')
    const folder = join(cache, 'runtime', `tensorflow-2.21.0-cpu-${process.platform}-${process.arch}`)
    const before = statSync(folder).mtimeMs
    const again = ensure(cache, path, tools.node)
    expect(again.stderr).toBe('')
    expect(statSync(folder).mtimeMs).toBe(before)
    expect({ pip: tools.count('pip'), compiler: tools.count('compiler'), probe: tools.count('probe') }).toEqual({
      pip: 1,
      compiler: 2,
      probe: 2,
    })

    rmSync(join(folder, 'lib', 'libtensorflow_framework.so.2'))
    expect(ensure(cache, path, tools.node).stderr).toContain(': lib/libtensorflow_framework.so.2 has 0 bytes')
    expect(tools.count('pip')).toBe(2)
  },
)

test.runIf(process.platform === 'linux' && process.arch === 'x64')(
  'a GPU build that cannot be made is replaced by the CPU build, and not tried at every start',
  () => {
    const { cache, path, tools, install } = scene()
    install('pip')
    install('compiler')
    writeFileSync(join(path, 'nvidia-smi'), '#!/bin/sh\necho "GPU 0: NVIDIA Test"\n', { mode: 0o755 })
    const pip = readFileSync(tools.pip, 'utf8')
    writeFileSync(
      tools.pip,
      pip.replace(
        'log pip\n',
        'log pip\nfor file in "$@"; do :; done\nread line < "$file"\ncase "$line" in tensorflow-cpu*) ;; *) echo "ERROR: no room for CUDA"; exit 1;; esac\n',
      ),
    )
    const { stderr } = ensure(cache, path, tools.node)
    expect(stderr).toContain('The CUDA build failed: pip could not download tensorflow==2.21.0: no room for CUDA')
    expect(stderr).toContain('TensorFlow 2.21.0 for the CPU is in')
    expect(ensure(cache, path, tools.node).stderr).toBe('')
    expect(tools.count('pip')).toBe(2)
  },
)

test.runIf(process.platform === 'linux' && process.arch === 'x64')(
  'a runtime that others can write is not used, with what to do; an addon that was changed is made again',
  () => {
    const { cache, path, tools, install } = scene()
    install('pip')
    install('compiler')
    ensure(cache, path, tools.node)
    const addon = findAddon(cache)
    writeFileSync(addon, 'other\n')
    expect(ensure(cache, path, tools.node).stderr).toContain(': tfjs_binding.node is not the file that setup built')
    chmodSync(addon, 0o777)
    const { status, stderr } = ensure(cache, path, tools.node)
    expect(status).toBe(0)
    expect(stderr).toContain(`${addon} can be written by other users. If it is unchanged, run \`chmod -R go-w ${dirname(addon)}\``)
  },
)
