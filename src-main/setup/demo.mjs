import './require-node.mjs'
import { argv } from 'node:process'
import { root } from '../runtime/node24.mjs'
import { runAfterSetUp, tryScreens } from './set-up.mjs'
import { runScript } from './tools.mjs'

await runAfterSetUp(async (node) => {
  await tryScreens(node)
  return runScript(node, [`${root}src-main/cli/demo.ts`, ...argv.slice(2)])
})
