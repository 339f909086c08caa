import '../../src-main/setup/require-node.mjs'
import { argv } from 'node:process'
import { runAfterSetUp } from '../../src-main/setup/set-up.mjs'
import { runScript } from '../../src-main/setup/tools.mjs'

await runAfterSetUp((node) => runScript(node, [`${import.meta.dirname}/main.ts`, ...argv.slice(2)]))
