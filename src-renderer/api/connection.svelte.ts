/**
 * `lost`: the workbench stopped answering, and the page keeps trying. `refused`: the workbench does not know this tab's token.
 * `signed out`: this tab has no token.
 */
export type ConnectionState = 'connecting' | 'open' | 'lost' | 'refused' | 'signed out'

let state = $state<ConnectionState>('connecting')

export const connection = {
  get state(): ConnectionState {
    return state
  },
  get isRefused(): boolean {
    return state === 'refused' || state === 'signed out'
  },
  set(next: ConnectionState): void {
    state = next
  },
}
