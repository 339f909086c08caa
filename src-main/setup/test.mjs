import './require-node.mjs'
import { argv, env, stdout } from 'node:process'
import { findGgml } from '../runtime/ggml.mjs'
import { chosenKernels, runnableKernels } from '../runtime/kernels.mjs'
import { root } from '../runtime/node24.mjs'
import { findRuntime, fusedName } from '../runtime/places.mjs'
import { trustedAddon } from '../runtime/trusted.mjs'
import { auditShipped } from './audit.mjs'
import { ensureBundle } from './screens.mjs'
import { setUp } from './set-up.mjs'
import { installVulkan } from './simulated-gpu.mjs'
import { addTallies, formatTally, noTest, oneTest, runVitest, testWindow } from './tally.mjs'
import { say } from './terminal.mjs'
import { commandOf, runHere, runTool } from './tools.mjs'

const given = argv
  .slice(2)
  .filter((one) => !['--attack', '--audit', '--interop', '--long', '--slurm', '--vulkan', '--window'].includes(one))
/** Also attack the program for a few seconds, as is done before a change is accepted. */
const attack = argv.includes('--attack')
/** Also query the registry for known defects of shipped packages. */
const audit = argv.includes('--audit')
/** Also try the exported files in the programs they are for. */
const interop = argv.includes('--interop')
/** Also run the test files that take longest. */
const long = argv.includes('--long')
/** Also send runs to a real Slurm, which is installed where possible. */
const slurm = argv.includes('--slurm')
/** Also compute on Vulkan with Mesa's simulated GPU, which is installed where possible. */
const vulkan = argv.includes('--vulkan')
/**
 * Also run what only a window has, and the package, with an Electron that is installed where possible. The screens are tested in a browser
 * already; `npm run window` repeats them in the window.
 */
const window = argv.includes('--window')
const tally = await runParts().catch((/** @type {Error} */ thrown) => {
  say(thrown.message)
  return oneTest(false, thrown.message)
})
stdout.write(`${formatTally(tally)}\n`)
process.exitCode = tally.failed > 0 ? 1 : 0

/**
 * Runs all checks and tests, or only the named tests.
 * @returns {Promise<import('./tally.mjs').Tally>}
 */
async function runParts() {
  if (vulkan) prepareVulkan()
  prepareKernels()
  const node = await showPart('set-up', setUp)
  if (vulkan) leaveVulkanToItsTests()
  requireKernels()
  const run = (/** @type {string[]} */ args) => runHere(node, args)
  if (given.length > 0) {
    if (slurm) await prepareSlurm(run)
    return showPart('tests', () => runVitest(run, given))
  }
  const check = (/** @type {string} */ title, /** @type {string[]} */ args) =>
    showPart(title, async () => oneTest((await run(args)) === 0, title))
  const types = startBeside(node, 'types and components', async (quietly) =>
    oneTest((await quietly([commandOf('svelte-check'), '--tsgo', '--fail-on-warnings'])) === 0, 'types and components'),
  )
  // Installed here, because parallel test files would each install it.
  await run([`${root}test/e2e/install-browser.mjs`])
  const first = [
    await check('format and lint', [commandOf('@biomejs/biome'), 'check', '--error-on-warnings', '.']),
    await showPart('screens', () => ensureBundle(node, 'screens').then(() => oneTest(true, 'screens'), refuseScreens)),
  ]
  // These parts mostly wait for Slurm's timers, and for one Python program at a time.
  const waiting = startBeside(node, 'Slurm and other tools', async (quietly) => {
    const tools = async () => oneTest((await quietly([`${root}test/interop/main.ts`])) === 0, 'interop')
    return (await Promise.all([...(slurm ? [testSlurm(quietly)] : []), ...(interop ? [tools()] : [])])).reduce(addTallies, noTest)
  })
  const parts = [
    ...first,
    ...(audit ? [await showPart('audit', auditShipped)] : []),
    ...(attack ? [await check('attack', [`${root}test/fuzz/main.ts`, '--minutes', '0.1'])] : []),
    await showPart('tests', () =>
      runVitest(
        run,
        ['own', 'shared', ...(long ? ['long'] : [])].flatMap((name) => ['--project', name]),
      ),
    ),
    ...(window ? [await showPart('window', () => testWindow(run, ['test/window']))] : []),
    await types(),
    ...(slurm || interop ? [await waiting()] : []),
  ]
  return parts.reduce(addTallies)
}

/**
 * Starts a part in parallel with the others, which leave processor time free. Its output is shown when its result is awaited.
 * @param {string} node
 * @param {string} title
 * @param {(quietly: (args: string[]) => Promise<number>) => Promise<import('./tally.mjs').Tally>} work
 * @returns {() => Promise<import('./tally.mjs').Tally>}
 */
function startBeside(node, title, work) {
  const began = performance.now()
  let output = ''
  const quietly = async (/** @type {string[]} */ args) => {
    const ended = await runTool(node, args)
    output += ended.output
    return ended.code
  }
  const result = work(quietly)
    .catch((/** @type {Error} */ thrown) => oneTest(false, `${title}: ${thrown.message}`))
    .then((tally) => ({ tally, seconds: (performance.now() - began) / 1000 }))
  return async () => {
    say(`\n== ${title}`)
    const { tally, seconds } = await result
    say(`${output.trim()}\n== ${title}: ${seconds.toFixed(1)} s, in parallel with the parts above`)
    return tally
  }
}

/**
 * Runs Slurm's tests one after another, because each starts its own daemons.
 * @param {(args: string[]) => Promise<number>} run
 */
async function testSlurm(run) {
  await prepareSlurm(run)
  return runVitest(run, ['--project', 'slurm', '--no-file-parallelism'], 'slurm')
}

/**
 * Installs Slurm if possible. Without it, its tests count as skipped.
 * @param {(args: string[]) => Promise<number>} run
 */
async function prepareSlurm(run) {
  await run([`${root}test/slurm/install.mjs`])
  env.ESPALIER_TEST_SLURM = '1'
}

/** Lets TensorFlow's library use no better instructions than the kernels that `ESPALIER_TEST_CPU` names. */
function prepareKernels() {
  const kernels = chosenKernels()
  if (!kernels) return
  env.ONEDNN_MAX_CPU_ISA = kernels.oneDnn
  say(`Tests use the kernels "${kernels.name}". This processor can run ${runnableKernels().join(', ')}.`)
}

/** Without the operations of the chosen kernels, all tests would use TensorFlow's own and say nothing about them. */
function requireKernels() {
  const [kernels, runtime] = [chosenKernels(), findRuntime()]
  if (!kernels || (runtime && trustedAddon(runtime.folder, fusedName()))) return
  throw new Error(
    `The kernels "${kernels.name}" of ESPALIER_TEST_CPU were not compiled, so they cannot be tested. The lines above say why.`,
  )
}

/** Installs the simulated GPU if possible, so that setup installs ggml's library for Vulkan. Without it, its tests count as skipped. */
function prepareVulkan() {
  const missing = installVulkan()
  say(missing ?? 'Vulkan computes on llvmpipe.')
  env.ESPALIER_VULKAN = missing ? '0' : '1'
  env.ESPALIER_TEST_VULKAN = missing ?? '1'
}

/** Turns Vulkan off for everything but its own tests, because other processes would look for a GPU in vain. */
function leaveVulkanToItsTests() {
  if (env.ESPALIER_TEST_VULKAN === '1' && !findGgml('ggml-vulkan'))
    env.ESPALIER_TEST_VULKAN = 'ggml’s library for Vulkan could not be installed'
  env.ESPALIER_VULKAN = '0'
}

/** @param {Error} thrown */
function refuseScreens(thrown) {
  say(thrown.message)
  return oneTest(false, thrown.message)
}

/**
 * @template T
 * @param {string} title
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
async function showPart(title, work) {
  const began = performance.now()
  say(`\n== ${title}`)
  const result = await work()
  say(`== ${title}: ${((performance.now() - began) / 1000).toFixed(1)} s`)
  return result
}
