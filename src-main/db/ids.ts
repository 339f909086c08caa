import { randomBytes } from 'node:crypto'

type IdKind = 'run' | 'exp' | 'model' | 'talk' | 'judging' | 'view' | 'prompts' | 'move' | 'owner' | 'sent' | 'undo'

/** Makes a new id from its kind, the time and 40 random bits. Ids of one kind sort by age and are unique across machines. */
export function newId(kind: IdKind): string {
  return `${kind}-${Date.now().toString(36)}-${randomBytes(5).toString('hex')}`
}
