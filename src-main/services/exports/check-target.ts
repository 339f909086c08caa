import { constants } from 'node:fs'
import { access, readdir, stat, statfs } from 'node:fs/promises'
import { dirname, relative, resolve, sep } from 'node:path'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { Problem } from '#contract/runs/request-preview.ts'

/**
 * Checks a folder to save to before any work is done. It must be writable, empty unless `replace` is set, and must not contain the source
 * model. Throws `conflict` or `disk`.
 */
export async function checkTarget(target: string, source: string, replace: boolean): Promise<void> {
  if (isWithin(resolve(source), target)) throw refusal('conflict', 'folder', `${target} contains the model itself. Choose another folder.`)
  const found = await stat(target).catch(() => undefined)
  if (found && !found.isDirectory())
    throw refusal('conflict', 'folder', `${target} exists and is a file. Choose another name for the folder.`)
  if (found && !replace && (await readdir(target)).length > 0)
    throw refusal('conflict', 'replace', `${target} exists and is not empty. Choose another name.`)
  await checkWritable(dirname(target))
}

/** Returns an error that names the field of the request, as the check of a request does. */
function refusal(code: Problem['code'], field: string, message: string): EspalierError {
  return new EspalierError(code, message, { problems: [{ code, field, message }] })
}

const isWithin = (inner: string, outer: string): boolean => {
  const way = relative(outer, inner)
  return way === '' || (way !== '..' && !way.startsWith(`..${sep}`))
}

/** Throws `disk` unless the folder, or its nearest existing parent, is writable. */
export async function checkWritable(folder: string): Promise<void> {
  const found = await stat(folder).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code !== 'ENOENT' && thrown.code !== 'ENOTDIR') throw thrown
    return undefined
  })
  if (!found && dirname(folder) !== folder) return checkWritable(dirname(folder))
  if (found && !found.isDirectory()) throw refusal('disk', 'folder', `${folder} is a file, not a folder. Choose another place.`)
  await access(folder, constants.W_OK | constants.X_OK).catch((thrown: unknown) => {
    throw refusal('disk', 'folder', `${folder} cannot be written to. Choose another place. (${toErrorMessage(thrown).message})`)
  })
}

/** Throws `disk` if the folder's disk has too little free space. */
export async function checkSpace(folder: string, bytes: number): Promise<void> {
  const found = await statfs(folder).catch(() => undefined)
  if (!found && dirname(folder) !== folder) return checkSpace(dirname(folder), bytes)
  const free = found ? found.bavail * found.bsize : Number.POSITIVE_INFINITY
  if (free >= bytes) return
  const megabytes = (count: number) => `${count.toLocaleString('en')} MB`
  const [needed, left] = [Math.ceil(bytes / 1e6), Math.floor(free / 1e6)]
  throw refusal(
    'disk',
    'folder',
    `${folder} needs ${megabytes(needed)}, but its disk has ${megabytes(left)} left. Free some space or choose another disk.`,
  )
}
