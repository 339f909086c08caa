import { relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * Where the files that take longest are. Those that wait for a browser or for other processes start first, so that others compute beside
 * them; a long file that starts last would leave a core idle.
 */
const first = ['test/e2e/', 'test/jobs/', 'test/cli/', 'test/services/', 'test/engine/pruning/', 'test/engine/export/gguf/', 'test/engine/']

interface Sorted {
  readonly path: string
  /** Whether it runs in a process that other files use too. */
  readonly shares: boolean
}

/**
 * Sorts files by those folders and otherwise keeps their order. Files that share processes come last: vitest keeps such a process only
 * while the next file shares too.
 */
export function waitingFirst<File extends Sorted>(files: readonly File[]): File[] {
  const rank = ({ path }: Sorted) => {
    const found = first.findIndex((folder) => path.startsWith(folder))
    return found < 0 ? first.length : found
  }
  return files.toSorted((a, b) => Number(a.shares) - Number(b.shares) || rank(a) - rank(b))
}

/** Within a folder the longest of the last run come first, as vitest remembers them. */
export default class WaitingFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = (await super.sort(files)).map((file) => ({
      file,
      path: relative(this.ctx.config.root, file.moduleId).replaceAll('\\', '/'),
      shares: !file.project.config.isolate,
    }))
    return waitingFirst(sorted).map(({ file }) => file)
  }
}
