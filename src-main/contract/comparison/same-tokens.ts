import type { ComparedRun } from './compare.ts'

type Measured = Pick<ComparedRun, 'model' | 'evaluation'>

/** Groups models, by id. Perplexities can be compared within a group, because its models measured some text on the same token ids. */
export function tokenGroups(runs: readonly Measured[]): ReadonlyMap<string, string> {
  const ofWindows = new Map<string, string>()
  const groups = new Map<string, string>()
  for (const [model, own] of Map.groupBy(runs, (run) => run.model.id)) {
    const hashes = own.flatMap(({ evaluation }) => evaluation.map(({ hash }) => hash))
    const group = hashes.flatMap((hash) => ofWindows.get(hash) ?? [])[0] ?? model
    for (const hash of hashes) ofWindows.set(hash, group)
    groups.set(model, group)
  }
  return groups
}

/** Whether a measure is a mean over tokens, so that its value depends on the tokenizer. */
export const isPerToken = (measure: string): boolean => measure.startsWith('perplexity')

/** Whether some of the runs must not be compared by perplexity. */
export const hasSeveralTokens = (runs: readonly Measured[]): boolean => new Set(tokenGroups(runs).values()).size > 1

export const sameTokensText = 'Perplexities are compared only between models that were measured on the same tokens.'
