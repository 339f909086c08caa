import { EspalierError } from '#contract/errors.ts'
import type { ModelEntry, Transfer } from '#contract/models/models.ts'
import type { CommandDoor } from '../with-workbench.ts'
import { tellMemoryWaits } from './memory-waits.ts'
import { printable, showBytes } from './print.ts'

/** Starts a transfer and waits for its end. A download that a signal cuts short is resumed by the next attempt. */
export async function followTransfer(door: CommandDoor, start: () => Promise<Transfer>): Promise<Transfer> {
  const seen = new Map<string, Transfer>()
  let wanted: string | undefined
  let settle: (transfer: Transfer) => void = () => {}
  const ended = new Promise<Transfer>((resolve) => {
    settle = resolve
  })
  const take = (transfer: Transfer) => {
    seen.set(transfer.id, transfer)
    if (transfer.id !== wanted) return
    tellTransfer(transfer)
    if (!['waiting', 'running', 'paused'].includes(transfer.status)) settle(transfer)
  }
  // What ended while no connection was open is known only by asking.
  const askAgain = () => {
    if (wanted === undefined) return
    void door.call('transfers.list', {}).then(
      (all) => all.forEach(take),
      () => {},
    )
  }
  const tellWait = tellMemoryWaits((id) => id === wanted)
  const stop = door.subscribe((event) => {
    tellWait(event)
    if (event.name === 'transfer changed') take(event.data.transfer)
  }, askAgain)
  const last = await start()
    .then((first) => {
      wanted = first.id
      take(seen.get(first.id) ?? first)
      return ended
    })
    .finally(stop)
  if (last.status === 'cancelled') throw new EspalierError('cancelled', `${last.name} was cancelled.`)
  if (last.status !== 'done') throw new EspalierError(last.code ?? 'internal', last.problem ?? `${last.name} failed.`)
  return last
}

/** Whether `text` has the form of a model's name on the hub: `owner/name`. */
export const isHubName = (text: string): boolean => /^\w[\w.-]*\/\w[\w.-]*$/.test(text)

/** Downloads a model from the hub into the library. */
export async function downloadModel(door: CommandDoor, name: string, revision: string | undefined): Promise<ModelEntry> {
  const { model } = await followTransfer(door, () =>
    door.call('models.download', { name, ...(revision === undefined ? {} : { revision }) }),
  )
  if (model === null) throw new EspalierError('internal', `${name} was downloaded but is not in the library.`)
  return door.call('models.get', { id: model })
}

function tellTransfer({ name, doneBytes, totalBytes, turns, kind, status }: Transfer): void {
  if (!process.stderr.isTTY) return
  const of = totalBytes === null ? '' : ` of ${showBytes(totalBytes)}`
  const done =
    turns || (kind === 'bench' && totalBytes === null)
      ? `turn ${turns?.done ?? 0} of ${turns?.total ?? '…'}`
      : `${showBytes(doneBytes)}${of}`
  process.stderr.write(`\r\u001b[K${printable(name)}: ${done}${status === 'running' ? '' : '\n'}`)
}
