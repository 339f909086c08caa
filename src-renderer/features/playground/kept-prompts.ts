const key = 'espalier prompts'

/** The prompts as the user left them in this tab: they survive other screens and reloads. */
export const keptPrompts = {
  get(): string[] {
    try {
      const kept: unknown = JSON.parse(sessionStorage.getItem(key) ?? 'null')
      return Array.isArray(kept) && kept.length > 0 && kept.every((prompt) => typeof prompt === 'string') ? kept : ['']
    } catch {
      return ['']
    }
  },
  set(prompts: readonly string[]): void {
    try {
      sessionStorage.setItem(key, JSON.stringify(prompts))
    } catch {
      // Without storage, the prompts start fresh next time.
    }
  },
}
