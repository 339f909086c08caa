import { toErrorMessage } from '#contract/errors.ts'
import { quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import { checkVocabulary, openTokenizer, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { type Model, openModel } from './model.ts'

/** The model that stays open between runs, so that a grid loads its weights once. */
let kept: { key: string; model: Promise<Model> } | undefined

/**
 * The model at a path. It stays open until another one is requested or `releaseModel` is called. The quick key detects changed files: then
 * the model is opened again, and what was remembered with the old one is dropped.
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

/** Closes the model that the last run left open. */
export async function releaseModel(): Promise<void> {
  const last = kept
  kept = undefined
  if (last) await (await last.model).close()
}

/** The tokenizer of a model, checked against its vocabulary; undefined if it has none. */
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
