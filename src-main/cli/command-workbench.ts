import { createHash } from 'node:crypto'
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { cwd } from 'node:process'
import { askInTerminal } from '#server/ask-in-terminal.ts'
import { defaultDataFolder, foldersOf } from '#services/models/folders.ts'
import { openWorkbench, type Workbench } from '#services/workbench.ts'
import type { Flags } from './flags/flags.ts'
import { namesSample } from './locate-model.ts'

/** After this many days, the folder of a killed command that was not rerun is deleted. */
const keptDays = 30

export interface CommandWorkbench extends Workbench {
  /** Closes the workbench when nothing is left to resume, and deletes the folder if it was made only for this command. */
  finish(): Promise<void>
}

/**
 * Opens the workbench of one command, which computes its own runs and ignores the queue. With `--no_history` it uses a temporary folder
 * named after the command's settings, so that a rerun after a kill finds it. `finish` deletes that folder.
 */
export async function openCommandWorkbench(flags: Partial<Flags>): Promise<CommandWorkbench> {
  const folder = flags.no_history ? temporaryFolder(flags) : defaultDataFolder()
  const workbench = await openWorkbench({
    folder,
    worksQueue: false,
    mayBegin: askInTerminal,
    patience: 'command',
    ...(namesSample(flags.model) ? {} : { bundledModel: null }),
    ...(flags.save ? { writable: [dirname(resolve(flags.save))] } : {}),
    hub: {
      tokenFile: foldersOf(defaultDataFolder()).tokenFile,
      ...(flags.cache_dir === undefined ? {} : { cacheFolder: resolve(flags.cache_dir) }),
    },
  })
  return {
    ...workbench,
    async finish() {
      await workbench.close()
      if (flags.no_history) rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Flags that change only how results are shown, not what is computed. */
const presentation = new Set(['json', 'output', 'save', 'format', 'gguf_type', 'replace', 'logging'])

function temporaryFolder(flags: Partial<Flags>): string {
  const parent = join(defaultDataFolder(), 'unkept')
  if (existsSync(parent)) {
    for (const name of readdirSync(parent)) {
      const path = join(parent, name)
      if (Date.now() - statSync(path).mtimeMs > keptDays * 86_400_000) rmSync(path, { recursive: true, force: true })
    }
  }
  const settings = Object.entries(flags).filter(([name]) => !presentation.has(name))
  return join(
    parent,
    createHash('sha256')
      .update(JSON.stringify([cwd(), settings.sort()]))
      .digest('hex')
      .slice(0, 16),
  )
}
