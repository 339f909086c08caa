import { type BrowserWindow, clipboard, dialog, type OpenDialogOptions } from 'electron'
import { isCallName } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import { parseAddress, printedAddress } from '#server/address.ts'
import { channels } from './channels.ts'
import type { DoorSwitch } from './door-switch.ts'
import { handle, textOf } from './ipc.ts'
import { openLink } from './links.ts'
import type { Secret } from './secrets.ts'

/** Opens every channel between the page and the workbench. `attached` stores the remote server across restarts. */
export function openBridge(door: DoorSwitch, window: BrowserWindow, attached: Secret): void {
  handle(channels.call, (name, input) => {
    const callName = textOf(name)
    if (!isCallName(callName)) throw new EspalierError('not-found', `There is no call "${callName}".`)
    return door.call(callName, (input ?? {}) as Parameters<typeof door.call>[1])
  })
  door.subscribe((event) => {
    if (!window.isDestroyed()) window.webContents.send(channels.event, event)
  })
  handle(channels.chooseFolder, () => choose(window, { properties: ['openDirectory'] }))
  handle(channels.chooseFile, () =>
    choose(window, { properties: ['openFile'], filters: [{ name: 'Models', extensions: ['gguf', 'safetensors', 'json'] }] }),
  )
  handle(channels.copyText, async (text) => {
    await clipboard.writeText(textOf(text, 10_000_000))
    return null
  })
  handle(channels.openLink, (address) => {
    if (!openLink(textOf(address))) throw new EspalierError('invalid', 'Espalier does not open that address.')
    return null
  })
  openConnection(door, attached)
}

function openConnection(door: DoorSwitch, attached: Secret): void {
  handle(channels.connection, () => door.connection())
  handle(channels.attach, async (address) => {
    const server = parseAddress(textOf(address))
    await door.attach(server)
    await attached.set(printedAddress(server))
    return door.connection()
  })
  handle(channels.detach, async () => {
    await door.detach()
    await attached.set(undefined)
    return door.connection()
  })
}

async function choose(window: BrowserWindow, options: OpenDialogOptions): Promise<string | null> {
  const { canceled, filePaths } = await dialog.showOpenDialog(window, options)
  return canceled ? null : (filePaths[0] ?? null)
}
