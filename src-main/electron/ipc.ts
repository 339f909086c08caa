import { type IpcMainInvokeEvent, ipcMain } from 'electron'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { BridgeAnswer } from '#contract/machine/bridge.ts'
import type { Channel } from './channels.ts'
import { isOwnAddress } from './origin.ts'

/** The only way to open a channel: the sender is checked, and errors return as data. */
export function handle<T>(channel: Channel, answer: (...given: unknown[]) => T | Promise<T>): void {
  ipcMain.handle(channel, async (event, ...given: unknown[]): Promise<BridgeAnswer<T>> => {
    try {
      checkSender(event)
      return { value: await answer(...given) }
    } catch (thrown) {
      return { error: toErrorMessage(thrown) }
    }
  })
}

/** Only the top frame of one of our pages may call. */
function checkSender(event: IpcMainInvokeEvent): void {
  const frame = event.senderFrame
  if (frame === null || frame.parent !== null || !isOwnAddress(frame.url))
    throw new EspalierError('invalid', 'Only the application’s own page may call.')
}

/** A received value as text of limited length. */
export function textOf(given: unknown, longest = 4096): string {
  if (typeof given !== 'string' || given.length > longest)
    throw new EspalierError('invalid', `Expected a text of at most ${longest} characters.`)
  return given
}
