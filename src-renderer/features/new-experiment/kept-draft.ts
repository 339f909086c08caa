import { type Draft, emptyDraft } from './grid.ts'

const storageKey = 'espalier draft'

/** Keeps the form for the next time it is opened; null forgets it. `origin` is the address that it was begun from. */
export function keepDraft(origin: string, draft: Draft | null): void {
  try {
    if (draft) localStorage.setItem(storageKey, JSON.stringify({ origin, draft }))
    else localStorage.removeItem(storageKey)
  } catch {
    // Without storage nothing is kept, and nothing else changes.
  }
}

/** The draft of this address, or the latest one if the address asks for nothing. */
export function keptDraft(origin: string, models: readonly string[]): Draft | null {
  try {
    return readDraft(localStorage.getItem(storageKey), origin, models)
  } catch {
    return null
  }
}

/** A kept draft without models that no longer exist. Fields from another version in another form get their defaults. */
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
