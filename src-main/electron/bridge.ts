import { existsSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { type BrowserWindow, clipboard, dialog, Menu, nativeTheme, type OpenDialogOptions, shell } from 'electron'
import { isCallName } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import type { DesktopMenuItem } from '#contract/machine/bridge.ts'
import { settings } from '#contract/machine/settings.ts'
import type { Door } from '#server/door.ts'
import { channels } from './channels.ts'
import { openLink } from './hardening.ts'
import { handle, textOf } from './ipc.ts'
import type { StoredState } from './window-state.ts'

/** Opens every channel between the page and the workbench. */
export function openBridge(door: Door, window: BrowserWindow, stored: StoredState): void {
  const running = new Map<unknown, AbortController>()
  handle(channels.call, async (name, input, id) => {
    const callName = textOf(name)
    if (!isCallName(callName)) throw new EspalierError('not-found', `There is no call "${callName}".`)
    const controller = new AbortController()
    if (id !== undefined) running.set(textOf(id), controller)
    try {
      return await door.call(callName, (input ?? {}) as Parameters<typeof door.call>[1], controller.signal)
    } finally {
      running.delete(id)
    }
  })
  handle(channels.cancel, (id) => {
    running.get(textOf(id))?.abort(new EspalierError('cancelled', 'Cancelled.'))
    return null
  })
  door.subscribe((event) => {
    if (!window.isDestroyed()) window.webContents.send(channels.event, event)
  })
  handle(channels.chooseFolder, () => choose(window, { title: 'Choose a folder', properties: ['openDirectory'] }))
  handle(channels.chooseFile, () =>
    choose(window, {
      title: 'Choose a file',
      properties: ['openFile'],
      filters: [
        { name: 'Models', extensions: ['gguf', 'safetensors', 'json'] },
        { name: 'All files', extensions: ['*'] },
      ],
    }),
  )
  handle(channels.showMenu, (items) => showMenu(window, items))
  handle(channels.setTheme, (given) => {
    const theme = settings.shape.theme.parse(given)
    nativeTheme.themeSource = theme
    if (theme !== stored.value.theme) stored.change({ theme })
    return null
  })
  handle(channels.showInFolder, (given) => {
    const path = textOf(given)
    // A network path would send this user's name to another machine.
    if (!isAbsolute(path) || /^[\\/]{2}/.test(path) || !existsSync(path))
      throw new EspalierError('not-found', `There is nothing at ${path}.`)
    shell.showItemInFolder(path)
    return null
  })
  handle(channels.copyText, async (text) => {
    await clipboard.writeText(textOf(text, 10_000_000))
    return null
  })
  handle(channels.openLink, (address) => {
    if (!openLink(textOf(address))) throw new EspalierError('invalid', 'Espalier does not open that address.')
    return null
  })
}

/** Shows entries that the page made, at the mouse. Returns the index of the chosen one. */
function showMenu(window: BrowserWindow, given: unknown): Promise<number | null> {
  const items = (Array.isArray(given) ? given : []).slice(0, 30) as DesktopMenuItem[]
  return new Promise((resolve) => {
    const entries = items.map(({ label, disabled = false }, at) => ({
      label: textOf(label, 200).replaceAll('&', '&&'),
      enabled: !disabled,
      click: () => resolve(at),
    }))
    // The menu closes before the click of its entry is reported.
    Menu.buildFromTemplate(entries).popup({ window, callback: () => setTimeout(() => resolve(null), 100) })
  })
}

async function choose(window: BrowserWindow, options: OpenDialogOptions): Promise<string | null> {
  const { canceled, filePaths } = await dialog.showOpenDialog(window, options)
  return canceled ? null : (filePaths[0] ?? null)
}
