import { toErrorMessage } from '#contract/errors.ts'
import { quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import { checkVocabulary, openTokenizer, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { type Model, openModel } from './model.ts'

/** The model that stays open between runs, so that a grid of runs loads its weights once. */
let kept: { key: string; model: Promise<Model> } | undefined

/**
 * Opens the model at a path, or returns it if it is already open. It stays open until another model or memory budget is requested, or
 * `releaseModel` is called. If the quick key shows that its files have changed, it is opened again, and what was kept with it is dropped.
 */
export async function acquireModel(path: string, memoryBytes: number | undefined): Promise<Model> {
  const key = JSON.stringify([path, memoryBytes ?? null, await quickKeyOf(path)])
  if (kept?.key !== key) {
    await releaseModel()
    kept = { key, model: openModel(path, memoryBytes) }
    kept.model.catch(() => {
      kept = undefined
    })
  }
  return (kept as { model: Promise<Model> }).model
}

/** Closes the model that is open, if any. */
export async function releaseModel(): Promise<void> {
  const last = kept
  kept = undefined
  if (last) await (await last.model).close()
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
