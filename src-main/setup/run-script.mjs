import './require-node.mjs'
import { join } from 'node:path'
import { argv } from 'node:process'
import { root } from '../runtime/node24.mjs'
import { chooseScript } from './scripts.mjs'
import { runAfterSetUp } from './set-up.mjs'
import { runScript } from './tools.mjs'

// Runs a developer's script after setup, on the program's Node: `run-script.mjs PATH [NAME] ...`, where PATH is inside this checkout.
const [path = '', ...given] = argv.slice(2)
await runAfterSetUp(async (node) => runScript(node, chooseScript(join(root, path), given)))
