import type { ApiEvent } from '#contract/events.ts'
import { printable } from './print.ts'

/** Returns a listener that says on stderr why one of these runs or transfers waits for memory, in the sentence that its page shows. */
export function tellMemoryWaits(isOurs: (id: string) => boolean): (event: ApiEvent) => void {
  let told = ''
  return (event) => {
    if (event.name !== 'queue changed') return
    const text = event.data.queue.memoryWaits.find(({ id }) => isOurs(id))?.text ?? ''
    if (text !== '' && text !== told) console.error(`${process.stderr.isTTY ? '\r\u001b[K' : ''}${printable(text)}`)
    told = text
  }
}
