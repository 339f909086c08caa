import { relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * Where the files that take longest are. Those that wait for a browser or for other processes start first, so that others compute beside
 * them; a long file that starts last would leave a core idle.
 */
const first = ['test/e2e/', 'test/jobs/', 'test/cli/', 'test/services/', 'test/engine/pruning/', 'test/engine/export/gguf/', 'test/engine/']

/** Sorts paths by those folders and otherwise keeps their order. */
export function waitingFirst(paths: readonly string[]): string[] {
  const rank = (path: string) => {
    const found = first.findIndex((folder) => path.startsWith(folder))
    return found < 0 ? first.length : found
  }
  return paths.toSorted((a, b) => rank(a) - rank(b))
}

/** Within a folder the longest of the last run come first, as vitest remembers them. */
export default class WaitingFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const pathOf = (file: TestSpecification) => relative(this.ctx.config.root, file.moduleId).replaceAll('\\', '/')
    const byPath = new Map((await super.sort(files)).map((file) => [pathOf(file), file]))
    return waitingFirst([...byPath.keys()]).flatMap((path) => byPath.get(path) ?? [])
  }
}
