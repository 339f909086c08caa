const prefix = 'espalier last '

/** Stores a screen's query in this browser, so that the screen can open the same way next time. */
export function keepLast(screen: string, query: Readonly<Record<string, string | undefined>>): void {
  const filled = Object.entries(query).filter(([, value]) => value)
  try {
    localStorage.setItem(prefix + screen, JSON.stringify(Object.fromEntries(filled)))
  } catch {
    // Without storage, the screen starts fresh next time.
  }
}

/** Returns the query that `keepLast` stored for a screen; empty if there is none or it cannot be read. */
export function lastKept(screen: string): Record<string, string> {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(prefix + screen) ?? '{}')
    if (typeof kept !== 'object' || kept === null) return {}
    return Object.fromEntries(Object.entries(kept).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
  } catch {
    return {}
  }
}
