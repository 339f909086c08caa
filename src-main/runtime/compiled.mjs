import { lstatSync, mkdirSync } from 'node:fs'
import module from 'node:module'
import { join } from 'node:path'
import { env, getuid } from 'node:process'
import { cacheFolder } from './places.mjs'

/**
 * Lets Node cache compiled code in the user's cache folder, for this process and its children, because commands then start a third faster.
 * Cached code is executed, so nothing is cached if other users can write to that folder.
 */
export function keepCompiled() {
  const folder = join(cacheFolder(), 'compiled')
  if (!isOurs(folder)) return
  module.enableCompileCache?.(folder)
  env.NODE_COMPILE_CACHE = folder
}

/** @param {string} folder */
function isOurs(folder) {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const { uid, mode } = lstatSync(folder)
    return !getuid || (uid === getuid() && (mode & 0o022) === 0)
  } catch {
    return false
  }
}
