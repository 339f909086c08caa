import { resolve } from 'node:path'
import { isScreenPath } from '#contract/machine/bridge.ts'
import { appScheme } from './origin.ts'

/** Starts the window on a screen. Used by entries of the taskbar and of the start menu: `--open=new`, `--open=models/ID`. */
export const openFlag = '--open='

/** What a start or the system asks for: a screen, a model file to add, or an exported file to import. */
export type Opening = { screen: string[] } | { model: string } | { exported: string }

/**
 * Returns what the arguments of a start ask for: `--open=run/ID`, the link `espalier://run/ID`, or a file. Undefined if they ask for
 * nothing.
 * @param folder that relative paths start from
 */
export function readArguments(given: readonly string[], folder: string): Opening | undefined {
  for (const argument of given) {
    const screen = argument.startsWith(openFlag) ? argument.slice(openFlag.length).split('/').filter(Boolean) : pathOfLink(argument)
    if (screen && isScreenPath(screen)) return { screen }
    if (screen || argument.startsWith('-')) continue
    if (/\.(gguf|safetensors)$/i.test(argument)) return { model: resolve(folder, argument) }
    if (/\.espalier\.json$/i.test(argument)) return { exported: resolve(folder, argument) }
  }
  return undefined
}

/** `espalier://run/ID`, as other programs open it. */
function pathOfLink(text: string): string[] | undefined {
  const url = text.startsWith(`${appScheme}:`) ? URL.parse(text) : null
  return url ? [url.host, ...url.pathname.split('/').filter(Boolean)] : undefined
}
