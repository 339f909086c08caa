import './require-node.mjs'
import { argv } from 'node:process'
import { root } from './node24.mjs'
import { runAfterSetUp } from './set-up.mjs'
import { runScript } from './tools.mjs'

await runAfterSetUp((node) => runScript(node, [`${root}test/interop/main.ts`, ...argv.slice(2)]))
