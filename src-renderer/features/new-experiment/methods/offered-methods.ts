import type { ModelEntry } from '#contract/models/models.ts'
import type { MethodEntry } from '#contract/pruning/methods.ts'
import type { Draft } from '../grid.ts'

/** Methods that can remove something from a chosen model, and those that are already chosen. */
export function offeredMethods<Method extends Pick<MethodEntry, 'id'>>(
  known: readonly Method[],
  models: readonly Pick<ModelEntry, 'id' | 'description'>[],
  { models: chosen, methods }: Pick<Draft, 'models' | 'methods'>,
): Method[] {
  const feasible = models.filter(({ id }) => chosen.includes(id)).flatMap(({ description }) => description.feasible)
  const isOut = (id: string) => {
    const own = feasible.filter(({ method }) => method === id)
    return own.length > 0 && own.every(({ maximum }) => maximum === 0)
  }
  return known.filter(({ id }) => methods.some(({ method }) => method === id) || !isOut(id))
}
