import './require-node.mjs'
import { root } from './node24.mjs'
import { runAfterSetUp } from './set-up.mjs'
import { runScript } from './tools.mjs'

await runAfterSetUp((node) => runScript(node, [`${root}test/docs/main.ts`]))
