import './require-node.mjs'
import { argv } from 'node:process'
import { root } from '../runtime/node24.mjs'
import { findElectron, noSandbox, openWindow } from './electron.mjs'
import { ensureBundle } from './screens.mjs'
import { runAfterSetUp } from './set-up.mjs'
import { runScript } from './tools.mjs'

const args = argv.slice(2)

await runAfterSetUp(async (node) => {
  await ensureBundle(node, 'screens')
  const electron = await findElectron(node, args)
  if (electron) {
    await ensureBundle(node, 'window')
    const code = await openWindow(electron, args)
    if (code !== undefined) return code
  }
  return runScript(node, [`${root}src-main/cli/espalier.mjs`, 'serve', ...args.filter((arg) => arg !== noSandbox)])
})
