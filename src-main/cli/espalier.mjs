#!/usr/bin/env node
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { argv, execPath, stderr } from 'node:process'
import { fileURLToPath } from 'node:url'
import '../setup/require-node.mjs'
import { keepCompiled } from '../runtime/compiled.mjs'
import { findNode24, missingNode24, root } from '../runtime/node24.mjs'
import { runScript } from '../setup/tools.mjs'

// The TypeScript sources need Node 24. If this is another version, the program restarts under Node 24 with the same arguments.
const node = findNode24()
if (!existsSync(join(root, 'node_modules', 'zod'))) refuse('The npm packages are not installed. Run `npm start` or `npm run demo` once.')
else if (!node) refuse(missingNode24)
else if (node === execPath) {
  keepCompiled()
  await import('./main.ts')
} else process.exitCode = await runScript(node, [fileURLToPath(import.meta.url), ...argv.slice(2)])

/** @param {string} message */
function refuse(message) {
  stderr.write(`${message}\n`)
  process.exitCode = 1
}
