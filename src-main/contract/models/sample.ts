import type { ModelEntry } from './models.ts'

type Related = Pick<ModelEntry, 'id' | 'origin' | 'parent'>

/** Whether a model is the bundled sample or was pruned from it. Only such models are offered the sample's texts: they know no others. */
export function isOfSample(id: string, models: readonly Related[]): boolean {
  const model = models.find((other) => other.id === id)
  if (!model) return false
  return model.origin === 'bundled' || (model.parent !== null && isOfSample(model.parent, models))
}
