import type { ApiEvent, CallApi, Listener } from '#contract/api.ts'
import type { BridgeConnection } from '#contract/machine/bridge.ts'
import { isInClear, type ServerAddress } from '#server/address.ts'
import { connectWorkbench } from '#server/client.ts'
import type { Door } from '#server/door.ts'

export interface ClosableDoor extends Door {
  close(): Promise<void>
}

type Remote = ClosableDoor & { address: string; up: boolean }

/**
 * The window's workbench: the local one, opened at the first call, or a server elsewhere. Listeners stay subscribed across a switch. The
 * local workbench continues its runs while the window is attached elsewhere.
 */
export class DoorSwitch implements ClosableDoor {
  readonly #openLocal: () => Promise<ClosableDoor>
  readonly #listeners = new Set<Listener>()
  #local: Promise<ClosableDoor> | undefined
  #remote: Remote | undefined

  constructor(openLocal: () => Promise<ClosableDoor>) {
    this.#openLocal = openLocal
  }

  readonly call: CallApi = async (name, input) => (this.#remote ?? (await this.#here())).call(name, input)

  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  connection(): BridgeConnection {
    return this.#remote ? { address: this.#remote.address, up: this.#remote.up, inClear: isInClear(this.#remote.address) } : null
  }

  async attach(server: ServerAddress): Promise<void> {
    const state = { address: server.address, up: true }
    const door = await connectWorkbench(server, (up) => {
      state.up = up
    })
    await this.detach()
    const remote: Remote = Object.assign(state, door)
    this.#remote = remote
    door.subscribe((event) => this.#tellFrom(remote, event))
  }

  async detach(): Promise<void> {
    const previous = this.#remote
    this.#remote = undefined
    await previous?.close()
  }

  async close(): Promise<void> {
    await this.detach()
    await (await this.#local?.catch(() => undefined))?.close()
  }

  #here(): Promise<ClosableDoor> {
    this.#local ??= this.#openLocal().then((door) => {
      door.subscribe((event) => this.#tellFrom(undefined, event))
      return door
    })
    return this.#local
  }

  /** Forwards an event if it comes from the workbench that the window currently uses. */
  #tellFrom(door: Remote | undefined, event: ApiEvent): void {
    if (door === this.#remote) for (const listener of this.#listeners) listener(event)
  }
}
