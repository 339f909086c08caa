import { type Draft, emptyDraft } from './grid.ts'

const storageKey = 'espalier draft'

/** Stores the form for the next time it is opened; null deletes it. `origin` is the address that the form was opened with. */
export function keepDraft(origin: string, draft: Draft | null): void {
  try {
    if (draft) localStorage.setItem(storageKey, JSON.stringify({ origin, draft }))
    else localStorage.removeItem(storageKey)
  } catch {
    // Without storage, the form starts fresh next time.
  }
}

/** Returns the stored draft if it was begun with this address, or in any case if the address is empty. */
export function keptDraft(origin: string, models: readonly string[]): Draft | null {
  try {
    return readDraft(localStorage.getItem(storageKey), origin, models)
  } catch {
    return null
  }
}

/** Parses a stored draft. Drops models that no longer exist, and gives fields whose type has changed their defaults. */
export function readDraft(text: string | null, origin: string, models: readonly string[]): Draft | null {
  const kept: unknown = JSON.parse(text ?? 'null')
  if (!isRecord(kept) || !isRecord(kept.draft) || (origin !== '' && kept.origin !== origin)) return null
  const draft = emptyDraft()
  for (const [name, usual] of Object.entries(draft)) {
    const value = kept.draft[name]
    if (usual === null || kindOf(value) === kindOf(usual)) Object.assign(draft, { [name]: value ?? usual })
  }
  draft.models = draft.models.filter((model) => models.includes(model))
  draft.siblings = draft.siblings.filter((model) => models.includes(model))
  return draft.models.length > 0 ? draft : null
}

const isRecord = (value: unknown): value is Record<string, unknown> => kindOf(value) === 'object'

const kindOf = (value: unknown): string => (Array.isArray(value) ? 'list' : value === null ? 'null' : typeof value)
