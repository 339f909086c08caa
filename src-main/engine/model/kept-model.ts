import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import { TrimmedTokenizer } from '#engine/tokenizer/reread-windows.ts'
import { checkVocabulary, openTokenizer, openTokenizerFiles, type Tokenizer, withoutTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { type Model, openModel } from './model.ts'

/** The model that stays open between runs, so that a grid of runs loads its weights once. */
interface Kept {
  readonly key: string
  readonly model: Promise<Model>
}
let kept: Kept | undefined
/** Settles when every earlier caller knows its key: callers are served in their order, however long each key takes to read. */
let keysRead: Promise<unknown> = Promise.resolve()

/**
 * Opens the model at a path, or returns it if it is already open. It stays open until another model or memory budget is requested, or
 * `releaseModel` is called. If the quick key shows that its files have changed, it is opened again, and what was kept with it is dropped.
 */
export async function acquireModel(path: string, memoryBytes: number | undefined): Promise<Model> {
  const reading = keysRead.then(() => quickKeyOf(path))
  keysRead = reading.catch(() => undefined)
  const key = JSON.stringify([path, memoryBytes ?? null, await reading])
  if (kept?.key === key) return kept.model
  const last = kept
  const next: Kept = { key, model: closeKept(last).then(() => openModel(path, memoryBytes)) }
  kept = next
  next.model.catch(() => {
    if (kept === next) kept = undefined
  })
  return next.model
}

/** Closes the model that is open, if any. */
export async function releaseModel(): Promise<void> {
  const last = kept
  kept = undefined
  await closeKept(last)
}

/** A model that did not open has thrown at its own caller, and needs no closing. */
async function closeKept(last: Kept | undefined): Promise<void> {
  const model = await last?.model.catch(() => undefined)
  await model?.close()
}

/** The tokenizer that was trimmed last, because a conversation asks for the same one with every answer. */
let trimmedLast: { readonly key: string; readonly tokens: Promise<TrimmedTokenizer> } | undefined

/**
 * Opens the tokenizer for a model as a plan leaves it: the trimmed one if the plan removes rows of the vocabulary, else undefined. Throws
 * `invalid` if the model has no tokenizer to trim.
 */
export async function openTrimmed(
  model: Pick<Model, 'path' | 'quickKey'>,
  plan: Plan | null,
  whole: Tokenizer | undefined,
): Promise<TrimmedTokenizer | undefined> {
  if (!plan?.vocabulary) return undefined
  if (!whole) throw new EspalierError('invalid', withoutTokenizer('read text with fewer tokens'))
  const { kept } = plan.vocabulary
  const key = [model.path, model.quickKey, ...kept].join()
  if (trimmedLast?.key !== key) {
    const tokens = openTokenizerFiles(model.path).then((files) => new TrimmedTokenizer(whole, files, kept))
    trimmedLast = { key, tokens }
    tokens.catch(() => {
      if (trimmedLast?.tokens === tokens) trimmedLast = undefined
    })
  }
  return trimmedLast.tokens
}

/** Opens the tokenizer of a model and checks it against the vocabulary. Returns undefined if the model has none. */
export async function openModelTokenizer(model: Pick<Model, 'path' | 'spec'>): Promise<Tokenizer | undefined> {
  try {
    const tokenizer = await openTokenizer(model.path)
    checkVocabulary(tokenizer, model.spec.vocabulary)
    return tokenizer
  } catch (error) {
    if (toErrorMessage(error).code === 'not-found') return undefined
    throw error
  }
}
