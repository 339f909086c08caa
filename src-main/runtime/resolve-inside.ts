import { readdir, realpath, stat } from 'node:fs/promises'
import { isAbsolute, join, relative, sep } from 'node:path'
import { EspalierError } from '#contract/errors.ts'

/**
 * Returns the path of a file that a model folder names. Throws if the path leaves the folder, by its name or by a link. The one exception
 * is the Hugging Face cache, where `snapshots/REVISION/` and its subfolders hold links into `blobs/` beside `snapshots`. The file may be
 * missing.
 */
export async function resolveInside(folder: string, name: string): Promise<string> {
  if (name === '' || name === '.' || name === '..' || /[/\\\0:]/.test(name)) {
    throw new EspalierError(
      'invalid',
      `${folder} names the file ${JSON.stringify(name)}; only a plain file name inside the folder is allowed.`,
    )
  }
  const file = join(folder, name)
  const target = await realpath(file).catch(() => undefined)
  if (target === undefined) return file
  const home = await realpath(folder)
  if (isInside(home, target) || isInside(blobsOf(home), target)) return file
  throw new EspalierError('invalid', `${file} is a link to ${target}, outside the model's folder. Copy the file into the folder.`, { file })
}

/** Throws if a file in a model folder is a link that leaves it. Links to folders are never followed, so they are allowed. */
export async function refuseLinksOut(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isSymbolicLink()) continue
    const target = await stat(join(folder, entry.name)).catch(() => undefined)
    if (!target?.isDirectory()) await resolveInside(folder, entry.name)
  }
}

function blobsOf(home: string): string | undefined {
  const parts = home.split(sep)
  const snapshots = parts.lastIndexOf('snapshots')
  return snapshots > 0 ? join(parts.slice(0, snapshots).join(sep), 'blobs') : undefined
}

function isInside(root: string | undefined, target: string): boolean {
  if (root === undefined) return false
  const path = relative(root, target)
  return path !== '' && path !== '..' && !path.startsWith(`..${sep}`) && !isAbsolute(path)
}
