import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/**
 * A built file or folder under `out`, found from the nearest ancestor that has one: the same for sources,
 * for bundles and their shared pieces, and inside of a packed application. Where nothing is built yet, where it would be.
 */
export function builtPath(...names: string[]): string {
  const ancestors = ancestorsOf(import.meta.dirname)
  const found = ancestors.map((folder) => join(folder, 'out', ...names)).find((path) => existsSync(path))
  return found ?? join(ancestors.find((folder) => existsSync(join(folder, 'package.json'))) ?? '.', 'out', ...names)
}

function ancestorsOf(folder: string): string[] {
  const parent = dirname(folder)
  return parent === folder ? [folder] : [folder, ...ancestorsOf(parent)]
}
