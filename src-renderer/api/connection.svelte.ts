/** `lost`: the workbench went away and is tried again; `refused`: it is there but does not know this page's token. */
export type ConnectionState = 'connecting' | 'open' | 'lost' | 'refused'

let state = $state<ConnectionState>('connecting')

export const connection = {
  get state(): ConnectionState {
    return state
  },
  set(next: ConnectionState): void {
    state = next
  },
}
