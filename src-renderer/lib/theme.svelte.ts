import { desktop } from '../api/api.ts'

export type ThemeChoice = 'system' | 'light' | 'dark'

const storageKey = 'espalier.theme'

let choice = $state<ThemeChoice>(readChoice())

/** Light, dark, or the system's; kept on this machine so that the first frame is right. */
export const theme = {
  get choice(): ThemeChoice {
    return choice
  },
  set(next: ThemeChoice): void {
    choice = next
    localStorage.setItem(storageKey, next)
    applyTheme()
  },
}

export function applyTheme(): void {
  if (choice === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = choice
  // The window's frame and its colour before the page is drawn follow.
  void desktop?.setTheme(choice).catch(() => undefined)
}

function readChoice(): ThemeChoice {
  const stored = typeof localStorage === 'undefined' ? null : localStorage.getItem(storageKey)
  return stored === 'light' || stored === 'dark' ? stored : 'system'
}
