/** A place that the command palette goes to, or an action. */
export interface Command {
  id: string
  title: string
  /** The kind: a screen, a model, an experiment, a run, an action. */
  kind: string
  note?: string
  run: () => void
}

/**
 * Commands whose title, kind or note contain every typed word. Those whose title begins with the text come first. What the server
 * `searched` matched by more than its title, and comes last.
 */
export function matchCommands(commands: readonly Command[], text: string, searched: readonly Command[] = [], most = 30): Command[] {
  const typed = text.trim().toLowerCase()
  const words = typed.split(/\s+/).filter(Boolean)
  const rank = ({ title }: Command) => {
    const lower = title.toLowerCase()
    if (lower.startsWith(typed)) return 0
    return words.every((word) => lower.includes(word)) ? 1 : 2
  }
  const matched = commands
    .filter(({ title, kind, note = '' }) => {
      const all = `${title} ${kind} ${note}`.toLowerCase()
      return words.every((word) => all.includes(word))
    })
    .sort((a, b) => rank(a) - rank(b))
  const ids = new Set(matched.map(({ id }) => id))
  return [...matched, ...searched.filter(({ id }) => !ids.has(id))].slice(0, most)
}
