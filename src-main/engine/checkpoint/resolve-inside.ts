import { realpath } from 'node:fs/promises'
import { basename, dirname, join, relative, sep } from 'node:path'
import { EspalierError } from '#contract/errors.ts'

/**
 * The path of a file that a model folder names, or an error when the name leads out of the folder, by its text or by a link.
 * The one exception is the layout of the Hugging Face cache, where `snapshots/REVISION/` holds links into `blobs/` beside it.
 * A file that does not exist is left to the caller.
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
  const roots = basename(dirname(home)) === 'snapshots' ? [home, join(home, '..', '..', 'blobs')] : [home]
  if (roots.some((root) => isInside(root, target))) return file
  throw new EspalierError('invalid', `${file} is a link to ${target}, outside the model's folder. Copy the file into the folder.`, { file })
}

function isInside(root: string, target: string): boolean {
  const path = relative(root, target)
  return path !== '' && path !== '..' && !path.startsWith(`..${sep}`)
}
