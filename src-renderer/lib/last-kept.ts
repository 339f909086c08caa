const prefix = 'espalier last '

/** Keeps what a screen shows for the next time it is opened, on this machine only. */
export function keepLast(screen: string, query: Readonly<Record<string, string | undefined>>): void {
  const filled = Object.entries(query).filter(([, value]) => value)
  try {
    localStorage.setItem(prefix + screen, JSON.stringify(Object.fromEntries(filled)))
  } catch {
    // Without storage nothing is kept, and nothing else changes.
  }
}

/** What was kept last; empty if there is nothing, or it cannot be read. */
export function lastKept(screen: string): Record<string, string> {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(prefix + screen) ?? '{}')
    if (typeof kept !== 'object' || kept === null) return {}
    return Object.fromEntries(Object.entries(kept).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
  } catch {
    return {}
  }
}
