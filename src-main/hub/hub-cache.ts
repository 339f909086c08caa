import { existsSync } from 'node:fs'
import { copyFile, link, mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import type { HubFile } from '#contract/models/hub-file.ts'
import { readSmallFile } from '#runtime/small-file.ts'
import { isCommit } from './names.ts'

type Environment = Record<string, string | undefined>

/** The Python library's folder for its cache and token. */
export function findHubHome(environment: Environment): string {
  if (environment.HF_HOME) return expandHome(environment.HF_HOME)
  return join(expandHome(environment.XDG_CACHE_HOME || '~/.cache'), 'huggingface')
}

/** The Python library's cache folder. */
export function findCacheFolder(environment: Environment): string {
  const named = environment.HF_HUB_CACHE || environment.HUGGINGFACE_HUB_CACHE
  return named ? expandHome(named) : join(findHubHome(environment), 'hub')
}

function expandHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path
}

/** `models--owner--name` or `datasets--owner--name` inside the cache. */
export function repositoryFolder(cacheFolder: string, kind: HubFile['kind'], repository: string): string {
  return join(cacheFolder, [`${kind}s`, ...repository.split('/')].join('--'))
}

export function snapshotPath(folder: string, commit: string, path: string): string {
  return join(folder, 'snapshots', commit, ...path.split('/'))
}

export function blobPath(folder: string, hash: string): string {
  return join(folder, 'blobs', hash)
}

/** Returns the commit that a revision pointed to at its last lookup; undefined if it was never looked up. */
export async function readCommit(folder: string, revision: string): Promise<string | undefined> {
  if (isCommit(revision)) return revision
  const text = await readSmallFile(join(folder, 'refs', ...revision.split('/'))).catch(() => '')
  return isCommit(text.trim()) ? text.trim() : undefined
}

export async function writeCommit(folder: string, revision: string, commit: string): Promise<void> {
  if (revision === commit) return
  const path = join(folder, 'refs', ...revision.split('/'))
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, commit)
}

/** The path of a cached file, else undefined. */
export async function findCached(cacheFolder: string, file: HubFile): Promise<string | undefined> {
  const folder = repositoryFolder(cacheFolder, file.kind, file.repository)
  const commit = await readCommit(folder, file.revision)
  if (commit === undefined) return undefined
  const path = snapshotPath(folder, commit, file.path)
  return existsSync(path) ? path : undefined
}

/** Gives a blob its name in a snapshot: as a relative symbolic link, else a hard link, else a copy. Returns the path. */
export async function linkSnapshot(folder: string, commit: string, path: string, hash: string): Promise<string> {
  const pointer = snapshotPath(folder, commit, path)
  if (existsSync(pointer)) return pointer
  const blob = blobPath(folder, hash)
  await mkdir(dirname(pointer), { recursive: true })
  await rm(pointer, { force: true })
  await symlink(relative(dirname(pointer), blob), pointer)
    .catch(() => link(blob, pointer))
    .catch(() => copyFile(blob, pointer))
  return pointer
}
