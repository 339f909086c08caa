import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/**
 * Returns the path of a built file or folder under `out` in the nearest ancestor that has it. This works for sources, for bundles and their
 * chunks, and inside a packed application. If nothing is built yet, returns the path where it would be.
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
