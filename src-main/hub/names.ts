import { EspalierError } from '#contract/errors.ts'

const repositoryPattern = /^[A-Za-z0-9_][\w.-]{0,95}(\/[A-Za-z0-9_][\w.-]{0,95})?$/
const commitPattern = /^[0-9a-f]{40}$/
const windowsDevice = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i
/** Invisible characters, and those that some file system forbids or treats as a separator. */
const forbiddenCharacter = /[\\:*?"<>|\p{C}]/u

export function isCommit(revision: string): boolean {
  return commitPattern.test(revision)
}

/** Whether a path from a server stays inside its folder and is a plain name on every platform. */
export function isSafePath(path: string): boolean {
  return path.length <= 1024 && path.split('/').every(isSafeSegment)
}

function isSafeSegment(segment: string): boolean {
  if (segment === '' || segment.length > 255) return false
  return !/[. ]$/.test(segment) && !forbiddenCharacter.test(segment) && !windowsDevice.test(segment)
}

export function checkRepository(repository: string): void {
  if (repositoryPattern.test(repository) && !/--|\.\.|\.git$/.test(repository)) return
  throw new EspalierError('usage', `'${repository}' is not a name on the hub. A name has the form owner/name, such as Qwen/Qwen2-0.5B.`)
}

export function checkRevision(revision: string): void {
  if (isSafePath(revision)) return
  throw new EspalierError('usage', `'${revision}' is not a revision. Give a branch (main), a tag or a commit of 40 hexadecimal digits.`)
}

export function checkPath(path: string, repository: string): void {
  if (isSafePath(path)) return
  throw new EspalierError('invalid', `${repository} names a file ${JSON.stringify(path)}, which is not a safe name; nothing was written.`)
}
