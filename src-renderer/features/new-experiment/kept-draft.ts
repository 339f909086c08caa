import { type Draft, emptyDraft } from './grid.ts'

const storageKey = 'espalier draft'

/** Stores a value for this tab, and for tabs and windows that are opened later; null deletes it. Tabs do not change each other's. */
function store(key: string, value: object | null): void {
  try {
    for (const storage of [sessionStorage, localStorage]) {
      if (value) storage.setItem(key, JSON.stringify(value))
      else storage.removeItem(key)
    }
  } catch {
    // Without storage, the form starts fresh next time.
  }
}

const stored = (key: string): string | null => sessionStorage.getItem(key) ?? localStorage.getItem(key)

/** Stores the draft for the next time the form is opened; null deletes it. `origin` is the address that the form was opened with. */
export function storeDraft(origin: string, draft: Draft | null): void {
  store(storageKey, draft && { origin, draft })
}

/** Returns the stored draft if it was begun at the address `origin`. An empty `origin` accepts any draft. Null if there is none. */
export function loadDraft(origin: string, models: readonly string[]): Draft | null {
  try {
    return readDraft(stored(storageKey), origin, models)
  } catch {
    return null
  }
}

/**
 * Parses a stored draft. Models that no longer exist are dropped. A field gets its default if its stored value has another type than the
 * default, except that a field whose default is null accepts any value. Returns null if the draft was begun at another address or has no
 * model left.
 */
export function readDraft(text: string | null, origin: string, models: readonly string[]): Draft | null {
  const found: unknown = JSON.parse(text ?? 'null')
  if (!isRecord(found) || !isRecord(found.draft) || (origin !== '' && found.origin !== origin)) return null
  const draft = emptyDraft()
  for (const [name, standard] of Object.entries(draft)) {
    const value = found.draft[name]
    if (standard === null || kindOf(value) === kindOf(standard)) Object.assign(draft, { [name]: value ?? standard })
  }
  draft.models = draft.models.filter((model) => models.includes(model))
  draft.siblings = draft.siblings.filter((model) => models.includes(model))
  return draft.models.length > 0 ? draft : null
}

const isRecord = (value: unknown): value is Record<string, unknown> => kindOf(value) === 'object'

const kindOf = (value: unknown): string => (Array.isArray(value) ? 'list' : value === null ? 'null' : typeof value)

const unfoldedKey = 'espalier all settings'

/** Whether all settings of the form are shown, as the user left it. */
export const settingsUnfolded = {
  get(): boolean {
    try {
      return localStorage.getItem(unfoldedKey) === 'yes'
    } catch {
      return false
    }
  },
  set(unfolded: boolean): void {
    try {
      localStorage.setItem(unfoldedKey, unfolded ? 'yes' : 'no')
    } catch {
      // Without storage, the form is folded next time.
    }
  },
}

/** What a quick answer has to meet, as the user set it for a model. */
export interface KeptTarget {
  readonly model: string
  readonly kind: 'size' | 'speed'
  readonly bytes: number
  readonly tokensPerSecond: number | null
}

const targetKey = 'espalier quick target'

/** The target survives reloads, as the draft does. */
export const keptTarget = {
  /** Null if none was set for this model. */
  get(model: string): KeptTarget | null {
    try {
      const kept: unknown = JSON.parse(stored(targetKey) ?? 'null')
      return isRecord(kept) && kept.model === model && typeof kept.bytes === 'number' ? (kept as unknown as KeptTarget) : null
    } catch {
      return null
    }
  },
  /** Null forgets it. */
  set(target: KeptTarget | null): void {
    store(targetKey, target)
  },
}
