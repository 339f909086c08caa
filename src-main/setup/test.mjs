import './require-node.mjs'
import { argv, env, execPath, stdout } from 'node:process'
import { root } from '../runtime/node24.mjs'
import { auditShipped } from './audit.mjs'
import { ensureBundle } from './screens.mjs'
import { setUp } from './set-up.mjs'
import { addTallies, formatTally, oneTest, runVitest } from './tally.mjs'
import { say } from './terminal.mjs'
import { commandOf, runHere, runTool } from './tools.mjs'

const given = argv.slice(2).filter((one) => !['--attack', '--audit', '--interop', '--slurm'].includes(one))
/** Also attack the program for a minute, as before a change is accepted. */
const attack = argv.includes('--attack')
/** Also query the registry for known defects of shipped packages. */
const audit = argv.includes('--audit')
/** Also try the exported files in the programs they are for. */
const interop = argv.includes('--interop')
/** Also send runs to a real Slurm, which is installed where possible. */
const slurm = argv.includes('--slurm')
const slurmTests = 'test/slurm'
const tally = await runParts().catch((/** @type {Error} */ thrown) => {
  say(thrown.message)
  return oneTest(false, thrown.message)
})
stdout.write(`${formatTally(tally)}\n`)
process.exitCode = tally.failed > 0 ? 1 : 0

/**
 * All checks and tests, or only the named tests.
 * @returns {Promise<import('./tally.mjs').Tally>}
 */
async function runParts() {
  const node = await showPart('set-up', setUp)
  if (given.length > 0) {
    if (slurm) await prepareSlurm()
    return showPart('tests', () => runVitest(node, given))
  }
  const check = (/** @type {string} */ title, /** @type {string[]} */ args) =>
    showPart(title, async () => oneTest((await runHere(node, args)) === 0, title))
  const checkTypes = startBeside('types and components', node, [commandOf('svelte-check'), '--fail-on-warnings'])
  // Parallel test files would each install it.
  await runHere(execPath, [`${root}test/e2e/install-browser.mjs`])
  const parts = [
    await check('format and lint', [commandOf('@biomejs/biome'), 'check', '--error-on-warnings', '.']),
    await showPart('screens', () => ensureBundle(node, 'screens').then(() => oneTest(true, 'screens'), refuseScreens)),
    ...(audit ? [await showPart('audit', auditShipped)] : []),
    ...(attack ? [await check('attack', [`${root}test/fuzz/main.ts`, '--minutes', '1'])] : []),
    await showPart('tests', () => runVitest(node, slurm ? ['--exclude', `${slurmTests}/**`] : [])),
    await checkTypes(),
    ...(slurm ? [await showPart('Slurm', () => prepareSlurm().then(() => runVitest(node, [slurmTests, '--no-file-parallelism'])))] : []),
    ...(interop ? [await check('interop', [`${root}test/interop/main.ts`])] : []),
  ]
  return parts.reduce(addTallies)
}

/**
 * Starts a check beside the other parts, which mostly wait. Its output is shown when its result is awaited.
 * @param {string} title
 * @param {string} node
 * @param {string[]} args
 * @returns {() => Promise<import('./tally.mjs').Tally>}
 */
function startBeside(title, node, args) {
  const work = runTool(node, args)
  return () =>
    showPart(title, async () => {
      const { code, output } = await work
      if (code !== 0) say(output.trim())
      return oneTest(code === 0, title)
    })
}

/** Tests that wait for daemons run one after another, with nothing beside them. Without Slurm they count as skipped. */
async function prepareSlurm() {
  await runHere(execPath, [`${root}test/slurm/install.mjs`])
  env.ESPALIER_TEST_SLURM = '1'
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
