/**
 * Checks each device against all recorded models and methods: `npm run devices`, or `npm run devices -- ggml-vulkan evopress reap` for one
 * device and the test files of these names.
 */
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { argv, env, execPath, exit } from 'node:process'
import { ensureGgml, vulkanPackages } from '../../src-main/setup/ggml.mjs'
import { installVulkan, simulatedGpu } from '../../src-main/setup/simulated-gpu.mjs'

/** Settings of each device for the tests. Shaders are optimised: they take longer to compile, but compute faster. */
const devices: Readonly<Record<string, () => Record<string, string>>> = {
  'tensorflow-cpu': () => ({ ESPALIER_TEST_BACKEND: 'tensorflow' }),
  'ggml-cpu': () => ({ ESPALIER_TEST_BACKEND: 'ggml' }),
  'ggml-vulkan': () => ({ ...simulatedGpu(), GALLIVM_PERF: '', ESPALIER_TEST_BACKEND: 'ggml-gpu', ESPALIER_TEST_VULKAN: 'all' }),
}

/** The folder of each test file. */
const files: Readonly<Record<string, string>> = {
  'every-device': 'backend',
  ...inFolder('pruning/methods', ['2ssp', '2ssp-experts', 'depth-scores', 'blockpruner', 'evopress', 'slicegpt', 'reap', 'gates']),
  ...inFolder('model', ['parity', 'families', 'mixtures']),
}

const vitest = join(createRequire(import.meta.url).resolve('vitest/package.json'), '..', 'vitest.mjs')
const asked = argv.slice(2)
const unknown = asked.filter((name) => !(name in devices || name in files))
if (unknown.length > 0) {
  const known = `the devices ${Object.keys(devices).join(', ')} and the tests ${Object.keys(files).join(', ')}`
  console.error(`There is no device or test ${unknown.join(', ')}. Choose among ${known}.`)
  exit(2)
}
const chosen = chosenOf(devices)
const paths = chosenOf(files).map((name) => `test/engine/${files[name]}/${name}.test.ts`)
const missing = chosen.includes('ggml-vulkan') ? installVulkan() : undefined
if (chosen.includes('ggml-vulkan') && !missing) await ensureGgml(vulkanPackages, 'ggml-vulkan')
const failed = chosen.filter((name) => {
  console.log(`\n== ${name}`)
  if (name === 'ggml-vulkan' && missing) {
    console.error(missing)
    return true
  }
  // One after the other: two processes would compile the same shaders.
  const words = [vitest, 'run', '--no-file-parallelism', ...paths]
  return spawnSync(execPath, words, { stdio: 'inherit', env: { ...env, ...devices[name]?.() } }).status !== 0
})
console.log(failed.length > 0 ? `\nFailed on ${failed.join(', ')}.` : '\nThe answers are those that were recorded.')
exit(failed.length > 0 ? 1 : 0)

function inFolder(folder: string, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, folder]))
}

/** What was asked for among these; all of them if nothing was. */
function chosenOf(known: object): string[] {
  const found = asked.filter((name) => name in known)
  return found.length > 0 ? found : Object.keys(known)
}
