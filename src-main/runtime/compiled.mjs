import { lstatSync, mkdirSync } from 'node:fs'
import module from 'node:module'
import { join } from 'node:path'
import { env, getuid } from 'node:process'
import { cacheFolder } from './places.mjs'

/**
 * Lets Node keep what it compiles of the program, in the user's cache folder, for this process and those that it starts: a command is
 * ready a third sooner. Where another user could write that folder nothing is kept, as what lies there is run.
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
