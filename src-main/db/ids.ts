import { randomBytes } from 'node:crypto'

export type IdKind = 'run' | 'exp' | 'model' | 'talk' | 'judging' | 'view' | 'prompts' | 'move' | 'owner' | 'sent'

/** A new id: kind, time and 40 random bits, so that ids sort by age and two machines never agree on one. */
export function newId(kind: IdKind): string {
  return `${kind}-${Date.now().toString(36)}-${randomBytes(5).toString('hex')}`
}
