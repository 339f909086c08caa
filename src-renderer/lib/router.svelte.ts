import { formatHash, parseHash } from './route.ts'
import '../api/token.ts'

let hash = $state(typeof location === 'undefined' ? '' : location.hash)
const route = $derived(parseHash(hash))

if (typeof window !== 'undefined') window.addEventListener('hashchange', () => (hash = location.hash))

/** The current route. A component that reads it is updated when the address changes. */
export const router = {
  get path(): string[] {
    return route.path
  },
  get query(): Record<string, string> {
    return route.query
  },
  /** Goes to another screen and adds an entry to the browser's history. */
  go(path: string[], query: Record<string, string | undefined> = {}): void {
    location.hash = formatHash(path, query)
  },
  /** Writes screen state into the address without adding an entry to the browser's history. */
  replaceQuery(query: Record<string, string | undefined>): void {
    const next = formatHash(route.path, query)
    if (next === hash) return
    history.replaceState(history.state, '', next)
    hash = next
  },
}
