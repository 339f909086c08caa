import { type IpcMainInvokeEvent, ipcMain } from 'electron'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { BridgeAnswer } from '#contract/machine/bridge.ts'
import type { Channel } from './channels.ts'
import { isOwnAddress } from './origin.ts'

/** Opens a channel. All channels are opened here, so that the sender is always checked and errors are returned as data. */
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

/** Returns a received value as text. Throws if it is not text or is too long. */
export function textOf(given: unknown, longest = 4096): string {
  if (typeof given !== 'string' || given.length > longest)
    throw new EspalierError('invalid', `Expected text of at most ${longest.toLocaleString('en')} characters.`)
  return given
}
