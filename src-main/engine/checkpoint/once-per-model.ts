/** Answers about models, by what was asked. They are forgotten with the checkpoint. */
export type KeptAnswers<T> = WeakMap<object, Map<string, Promise<T>>>

/** Finds an answer about an open model once, because the requests of a grid ask the same. `question` is all that it depends on. */
export function oncePerModel<T>(kept: KeptAnswers<T>, checkpoint: object, question: unknown, find: () => Promise<T>): Promise<T> {
  const known = kept.get(checkpoint) ?? new Map<string, Promise<T>>()
  kept.set(checkpoint, known)
  const key = JSON.stringify(question)
  const found = known.get(key) ?? find()
  known.set(key, found)
  return found
}
