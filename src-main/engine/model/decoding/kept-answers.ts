import { createHash } from 'node:crypto'
import { keysAndValues } from '#engine/architectures/count-parameters.ts'
import { keptWith, type Model } from '../model.ts'
import type { ModelView } from '../views/view.ts'
import { DecodingSession, type HeldSequence } from './session.ts'

/** The tokens of a prompt and its answer that the model has read. */
interface KeptSequence extends HeldSequence {
  /** Identifies the plan and the kind of products with which the tokens were read. */
  readonly reader: string
  readonly ids: readonly number[]
  readonly bytes: number
}

/** The share of the workspace that kept keys and values may use. */
const keptShare = 0.25
/** Common beginnings of fewer tokens than this are not reused. */
const worthwhile = 8

/**
 * The keys and values of the last answers. A prompt that begins like one of them, such as the next turn of a chat, continues from there.
 */
export class KeptAnswers {
  readonly #sequences: KeptSequence[] = []
  readonly #roomBytes: number

  constructor({ workspaceBytes }: Pick<Model, 'workspaceBytes'>) {
    this.#roomBytes = workspaceBytes * keptShare
  }

  /** Starts a session for a prompt. `known` is how many of its tokens the session has already read; the last one must always be fed. */
  begin(view: ModelView, prompt: readonly number[]): { session: DecodingSession; known: number } {
    const reader = readerOf(view)
    let best: KeptSequence | undefined
    let known = 0
    for (const one of this.#sequences) {
      if (one.reader !== reader) continue
      const common = Math.min(commonStart(one.ids, prompt), prompt.length - 1)
      if (common > known) [best, known] = [one, common]
    }
    if (!best || known < worthwhile) return { session: new DecodingSession(view), known: 0 }
    return { session: DecodingSession.after(view, { cache: best.cache, slots: best.slots.slice(0, known) }), known }
  }

  /**
   * Keeps what a session has read of these tokens, and drops the oldest answers to make room. Models with DeltaNets keep nothing, because
   * their state cannot be cut back to an earlier position.
   */
  keep(view: ModelView, ids: readonly number[], session: DecodingSession): void {
    if (view.spec.delta) return
    const held = session.hold()
    const bytes = 4 * held.slots.length * keysAndValues(view.spec)
    this.#sequences.push({ ...held, reader: readerOf(view), ids: ids.slice(0, held.slots.length), bytes })
    while (this.#sequences.reduce((sum, one) => sum + one.bytes, 0) > this.#roomBytes) this.#drop()
  }

  #drop(): void {
    const oldest = this.#sequences.shift()
    oldest?.cache.giveBack(oldest.slots)
    oldest?.cache.dispose()
  }

  dispose(): void {
    while (this.#sequences.length > 0) this.#drop()
  }
}

/** The kept answers of a model, created on first use. */
export const keptAnswers = (model: Model): KeptAnswers => keptWith(model, 'answers', () => new KeptAnswers(model))

const readerOf = ({ plan, model }: ModelView): string =>
  createHash('sha256')
    .update(JSON.stringify([plan ?? null, model.products.answers]))
    .digest('hex')

function commonStart(a: readonly number[], b: readonly number[]): number {
  let length = 0
  while (length < a.length && length < b.length && a[length] === b[length]) length++
  return length
}
