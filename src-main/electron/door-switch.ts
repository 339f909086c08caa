import type { CallApi, Listener } from '#contract/api.ts'
import type { BridgeConnection } from '#contract/machine/bridge.ts'
import { isInClear, type ServerAddress } from '#server/address.ts'
import { connectWorkbench } from '#server/client.ts'
import type { Door } from '#server/door.ts'

export interface ClosableDoor extends Door {
  close(): Promise<void>
}

export interface DoorSwitch extends ClosableDoor {
  connection(): BridgeConnection
  attach(server: ServerAddress): Promise<void>
  detach(): Promise<void>
}

/**
 * The window's workbench: the local one, opened at the first call, or a remote server. Listeners survive a switch. The local workbench
 * continues its runs while the window is attached elsewhere.
 */
export function makeDoorSwitch(openLocal: () => Promise<ClosableDoor>): DoorSwitch {
  const listeners = new Set<Listener>()
  const tell: Listener = (event) => {
    for (const listener of listeners) listener(event)
  }
  let local: Promise<ClosableDoor> | undefined
  let remote: (ClosableDoor & { address: string; up: boolean }) | undefined

  function here(): Promise<ClosableDoor> {
    local ??= openLocal().then((door) => {
      door.subscribe((event) => {
        if (!remote) tell(event)
      })
      return door
    })
    return local
  }

  async function detach(): Promise<void> {
    const left = remote
    remote = undefined
    await left?.close()
  }

  return {
    call: (async (name, input) => (remote ?? (await here())).call(name, input)) as CallApi,
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    connection: () => (remote ? { address: remote.address, up: remote.up, inClear: isInClear(remote.address) } : null),
    async attach(server) {
      const state = { address: server.address, up: true }
      const door = await connectWorkbench(server, (up) => {
        state.up = up
      })
      await detach()
      remote = Object.assign(state, door)
      door.subscribe((event) => {
        if (remote === state) tell(event)
      })
    },
    detach,
    async close() {
      await detach()
      await (await local?.catch(() => undefined))?.close()
    },
  }
}
