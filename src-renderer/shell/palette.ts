import { containsWords } from '../lib/search.ts'

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
 * Returns the commands whose title, kind or note contain every typed word, those whose title begins with the text first. The commands in
 * `searched` come last: the server found them, which looks at more than titles.
 */
export function matchCommands(commands: readonly Command[], text: string, searched: readonly Command[] = [], limit = 30): Command[] {
  const typed = text.trim().toLowerCase()
  const rank = ({ title }: Command) => {
    if (title.toLowerCase().startsWith(typed)) return 0
    return containsWords(title, typed) ? 1 : 2
  }
  const matched = commands
    .filter(({ title, kind, note = '' }) => containsWords(`${title} ${kind} ${note}`, typed))
    .sort((a, b) => rank(a) - rank(b))
  const ids = new Set(matched.map(({ id }) => id))
  return [...matched, ...searched.filter(({ id }) => !ids.has(id))].slice(0, limit)
}
