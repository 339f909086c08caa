/** Checks each device against all recorded models and methods: `npm run devices`, or `npm run devices -- ggml-vulkan` for one of them. */
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

const files = [
  'backend/every-device',
  ...['2ssp', '2ssp-experts', '2ssp-fit', 'depth-scores', 'blockpruner', 'evopress', 'slicegpt', 'reap'].map(
    (name) => `pruning/methods/${name}`,
  ),
  ...['parity', 'families', 'mixtures'].map((name) => `model/${name}`),
].map((name) => `test/engine/${name}.test.ts`)

const vitest = join(createRequire(import.meta.url).resolve('vitest/package.json'), '..', 'vitest.mjs')
const asked = argv.slice(2)
const unknown = asked.filter((name) => !(name in devices))
if (unknown.length > 0) {
  console.error(`There is no device ${unknown.join(', ')}. Choose among ${Object.keys(devices).join(', ')}.`)
  exit(2)
}
const chosen = asked.length > 0 ? asked : Object.keys(devices)
const missing = chosen.includes('ggml-vulkan') ? installVulkan() : undefined
if (chosen.includes('ggml-vulkan') && !missing) await ensureGgml(vulkanPackages, 'ggml-vulkan')
const failed = chosen.filter((name) => {
  console.log(`\n== ${name}`)
  if (name === 'ggml-vulkan' && missing) {
    console.error(missing)
    return true
  }
  // One after the other: two processes would compile the same shaders.
  const words = [vitest, 'run', '--no-file-parallelism', ...files]
  return spawnSync(execPath, words, { stdio: 'inherit', env: { ...env, ...devices[name]?.() } }).status !== 0
})
console.log(failed.length > 0 ? `\nFailed on ${failed.join(', ')}.` : '\nEvery device chose what was recorded.')
exit(failed.length > 0 ? 1 : 0)
