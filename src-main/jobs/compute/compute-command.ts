import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { ComputeCommand } from './compute-process.ts'

/** Returns the command that starts a compute process: from source if this program runs from source, else the bundle beside this one. */
export function defaultComputeCommand(): ComputeCommand {
  const source = join(import.meta.dirname, '..', '..', 'compute', 'main.ts')
  const bundle = join(import.meta.dirname, 'compute.js')
  // Little stays on the heap, so a small young generation costs no time and leaves memory for weights.
  return [findNode(), '--max-semi-space-size=4', existsSync(source) ? source : bundle]
}

/**
 * Returns the command that starts the command line on another machine that sees this installation. Throws if Espalier does not run from
 * source.
 */
export function espalierCommand(): ComputeCommand {
  const script = join(import.meta.dirname, '..', '..', 'cli', 'espalier.mjs')
  if (existsSync(script)) return [findNode(), '--disable-warning=ExperimentalWarning', script]
  throw new EspalierError(
    'usage',
    'This installation cannot be started on a node. In the cluster’s profile, set the path of the espalier command on the nodes.',
  )
}

/** Returns the path of plain Node: this executable, or under Electron the Node from an npm package. */
function findNode(): string {
  if (process.env.ESPALIER_NODE) return process.env.ESPALIER_NODE
  if (!process.versions.electron) return process.execPath
  const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`
  const require = createRequire(import.meta.url)
  for (const candidate of [name, name.replace('node-', 'node-bin-')]) {
    try {
      const folder = join(require.resolve(`${candidate}/package.json`), '..')
      const program = join(folder, 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
      if (existsSync(program)) return program.replace('app.asar', 'app.asar.unpacked')
    } catch {}
  }
  throw new EspalierError(
    'internal',
    `Node for ${process.platform} ${process.arch} was not installed with Espalier. Set ESPALIER_NODE to the path of a Node 24.`,
  )
}
