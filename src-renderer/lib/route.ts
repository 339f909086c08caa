/** The address in parts: the segments of its path, and the screen's state in its query. */
interface Route {
  path: string[]
  query: Record<string, string>
}

/** Parses `#/runs/abc?search=x`. An empty path means the first screen. */
export function parseHash(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2)
  return {
    path: path.split('/').filter(Boolean).map(decodeSafely),
    query: Object.fromEntries(new URLSearchParams(query)),
  }
}

/** The address of a route. Empty values are left out to keep links short. */
export function formatHash(path: string[], query: Record<string, string | undefined> = {}): string {
  const parameters = new URLSearchParams()
  for (const [key, value] of Object.entries(query)) if (value !== undefined && value !== '') parameters.set(key, value)
  const text = parameters.toString()
  return `#/${path.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`
}

function decodeSafely(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
