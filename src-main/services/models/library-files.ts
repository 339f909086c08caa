import { type Dirent, existsSync, statSync } from 'node:fs'
import { copyFile, mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { basename, dirname, extname, join, parse, resolve } from 'node:path'
import type { Output } from '#contract/api.ts'
import { isTextFile } from '#contract/data/text-endings.ts'
import { EspalierError } from '#contract/errors.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'

interface LibraryFile {
  name: string
  bytes: number
}

/** Lists the files of a checkpoint, which is a folder or one file. */
export async function filesOf(path: string): Promise<LibraryFile[]> {
  const found = await stat(path).catch(() => null)
  if (found === null) return []
  if (found.isFile()) return [{ name: basename(path), bytes: found.size }]
  const names = await readdir(path)
  const files = await Promise.all(names.map(async (name) => ({ name, stat: await stat(join(path, name)).catch(() => null) })))
  return files
    .flatMap((file) => (file.stat?.isFile() ? [{ name: file.name, bytes: file.stat.size }] : []))
    .sort((a, b) => a.name.localeCompare(b.name))
}

/** When the newest of a checkpoint's files was written, in milliseconds since 1970; 0 if there is none. */
export async function changedAt(path: string): Promise<number> {
  const isFile = (await stat(path).catch(() => null))?.isFile()
  const files = isFile ? [path] : (await filesOf(path)).map(({ name }) => join(path, name))
  const times = await Promise.all(
    files.map((file) =>
      stat(file).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      ),
    ),
  )
  return Math.max(0, ...times)
}

/** Returns the checkpoint that a path means. A path to config.json or to safetensors beside it means their folder. */
export function checkpointAt(path: string): string {
  const isPart = /^config\.json$|\.safetensors(\.index\.json)?$/i.test(basename(path))
  return isPart && existsSync(path) && existsSync(join(dirname(path), 'config.json')) ? dirname(path) : path
}

/** Copies a checkpoint under a hidden name, and gives it its final name when it is complete. */
export async function copyCheckpoint(from: string, to: string, signal: AbortSignal, report: (bytes: number) => void): Promise<void> {
  const single = statSync(from).isFile()
  const unfinished = join(dirname(to), `.${basename(to)}.unfinished`)
  await rm(unfinished, { recursive: true, force: true })
  await mkdir(single ? dirname(to) : unfinished, { recursive: true })
  try {
    for (const { name, bytes } of await filesOf(from)) {
      signal.throwIfAborted()
      if (!single) await resolveInside(from, name)
      await copyFile(single ? from : join(from, name), single ? unfinished : join(unfinished, name))
      report(bytes)
    }
    await rename(unfinished, to)
  } catch (thrown) {
    await rm(unfinished, { recursive: true, force: true })
    throw thrown
  }
}

/** Lists folders, checkpoints and files of text in a folder, for pages without a file dialog. Hidden entries are omitted. */
export async function browse(folder: string = homedir()): Promise<Output<'files.browse'>> {
  const place = resolve(folder)
  const entries = await readdir(place, { withFileTypes: true }).catch((thrown: NodeJS.ErrnoException) => {
    const problem =
      thrown.code === 'ENOENT' ? 'does not exist. Choose another folder.' : 'cannot be read. Choose a folder that you may list.'
    throw new EspalierError('not-found', `${place} ${problem}`)
  })
  const kinds = await Promise.all(
    entries
      .filter(({ name }) => !name.startsWith('.'))
      .map(async (entry) => ({ name: entry.name, path: join(place, entry.name), kind: await kindOf(place, entry) })),
  )
  return {
    folder: place,
    parent: parse(place).root === place ? null : dirname(place),
    entries: kinds.flatMap(({ kind, ...entry }) => (kind ? [{ ...entry, kind }] : [])).sort((a, b) => a.name.localeCompare(b.name)),
  }
}

async function kindOf(folder: string, entry: Dirent): Promise<'folder' | 'model' | 'data' | null> {
  const path = join(folder, entry.name)
  const found = await stat(path).catch(() => null)
  if (found?.isDirectory()) return existsSync(join(path, 'config.json')) ? 'model' : 'folder'
  if (!found?.isFile()) return null
  if (extname(entry.name).toLowerCase() === '.gguf') return 'model'
  return isTextFile(entry.name) ? 'data' : null
}
