import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

/**
 * Lists a folder's scripts for `npm run COMMAND -- NAME`: the files whose header shows that command.
 * @param {string} folder whose name is also the npm command
 * @returns {string[]} names without the ending
 */
export function listScripts(folder) {
  const command = basename(folder)
  return readdirSync(folder)
    .filter((file) => file.endsWith('.ts'))
    .map((file) => basename(file, '.ts'))
    .filter((name) => new RegExp(`npm run ${command} -- ${name}\\b`).test(headerOf(join(folder, `${name}.ts`))))
}

/** @param {string} file */
function headerOf(file) {
  return readFileSync(file, 'utf8').split('*/', 1)[0] ?? ''
}

/**
 * Chooses what an npm command runs: a folder's script by name (default: `main.ts`), or a single file. Throws if the folder has no script of
 * that name.
 * @param {string} place a folder, or a .ts or .mjs file
 * @param {string[]} given what follows `--`
 * @returns {string[]} the file and its arguments
 */
export function chooseScript(place, given) {
  if (/\.(ts|mjs)$/.test(place)) return [place, ...given]
  const [name, ...rest] = given
  if (name === undefined || name.startsWith('-')) return [join(place, 'main.ts'), ...given]
  const known = listScripts(place)
  if (!known.includes(name))
    throw new Error(`npm run ${basename(place)} has no script "${name}". Choose ${known.join(', ')}, or give no name.`)
  return [join(place, `${name}.ts`), ...rest]
}
