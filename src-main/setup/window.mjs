import './require-node.mjs'
import { argv, env, stdout } from 'node:process'
import { runAfterSetUp } from './set-up.mjs'
import { formatTally, testWindow } from './tally.mjs'
import { runHere } from './tools.mjs'

// Runs the tests in a real window, or only the named files of them: `npm run window -- test/window/menu.test.ts`.
env.ESPALIER_TEST_LONG_WINDOW = '1'
await runAfterSetUp(async (node) => {
  const tally = await testWindow((args) => runHere(node, args), argv.slice(2))
  stdout.write(`${formatTally(tally)}\n`)
  return tally.failed > 0 ? 1 : 0
})
