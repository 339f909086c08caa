import { toErrorMessage } from '#contract/errors.ts'

/** A short message at the edge of the window, with a button for undo or another action. */
export interface Notice {
  key: number
  text: string
  tone: 'plain' | 'warm'
  /** The id of its subject. A newer notice about the same subject replaces it. */
  about?: string
  action?: { label: string; act: () => void }
}

const secondsShown = 7

let nextKey = 0
let list = $state<Notice[]>([])
let spoken = $state('')
let last = ''
let saidAt = -1000

export const notices = {
  get list(): Notice[] {
    return list
  },
  /** The text of the live region, which a screen reader reads next. */
  get spoken(): string {
    return spoken
  },
}

type Options = Partial<Pick<Notice, 'tone' | 'about' | 'action'>> & { undo?: () => void }

export function notify(text: string, { tone = 'plain', about, undo, action = undo && { label: 'Undo', act: undo } }: Options = {}): void {
  nextKey += 1
  const notice: Notice = { key: nextKey, text, tone, ...(about ? { about } : {}), ...(action ? { action } : {}) }
  list = [...list.filter((other) => !about || other.about !== about).slice(-3), notice]
  announce(text)
  setTimeout(() => dismiss(notice.key), secondsShown * 1000 * (action ? 2 : 1))
}

/** Shows why an action failed. A lost connection is shown once, by the line at the top. */
export function notifyProblem(thrown: unknown): void {
  const { code, message } = toErrorMessage(thrown)
  if (code !== 'unreachable') notify(message, { tone: 'warm' })
}

/** Runs an action. If it fails, shows why. Returns whether it succeeded. */
export async function attempt(action: () => Promise<unknown>): Promise<boolean> {
  try {
    await action()
    return true
  } catch (thrown) {
    notifyProblem(thrown)
    return false
  }
}

export function dismiss(key: number): void {
  list = list.filter((notice) => notice.key !== key)
}

/**
 * Announces text to screen readers without showing it. Text announced within the last half second is repeated first, because the new text
 * would cut it off.
 */
export function announce(text: string): void {
  const now = performance.now()
  const all = now - saidAt < 500 ? `${last.trim()}. ${text}` : text
  saidAt = now
  // Screen readers skip unchanged text, so repeated text gets a space. `last` is no state: an effect that announces would depend on it.
  last = last === all ? `${all} ` : all
  spoken = last
}
