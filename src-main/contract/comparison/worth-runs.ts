import { denseMethod, isAblation, isInspection } from '../titles.ts'
import type { ComparedRun } from './compare.ts'

export const isPruned = ({ method }: Pick<ComparedRun, 'method'>): boolean => method !== denseMethod

/** Returns the models that a verdict can be about, with their runs. Models with only unpruned files are rivals of each pruned model. */
export function runsByModel(runs: readonly ComparedRun[]): Map<string, { name: string; runs: ComparedRun[] }> {
  const files = runs.filter(({ method }) => !isAblation(method) && !isInspection(method))
  const groups = Map.groupBy(files, ({ model }) => model.id)
  const pruned = [...groups].filter(([, own]) => own.some(isPruned))
  const rivals = pruned.length > 0 ? [...groups.values()].filter((own) => !own.some(isPruned)).flat() : []
  const judged = pruned.length > 0 ? pruned : [...groups]
  return new Map(judged.map(([id, own]) => [id, { name: own[0]?.model.name ?? '', runs: [...own, ...rivals] }]))
}

/**
 * Keeps all runs, but drops those perplexities of other models that were not measured on the same windows of token ids as the model of the
 * first pruned run (`own`). `strangers` are the names of models that lost a perplexity.
 */
export function onSameWindows(runs: readonly ComparedRun[]): { runs: ComparedRun[]; own: string | undefined; strangers: string[] } {
  const own = (runs.find(isPruned) ?? runs[0])?.model.id
  const windows = new Set(runs.filter(({ model }) => model.id === own).flatMap(windowsOf))
  const comparable = runs.map((run) => (run.model.id === own ? run : keepPerplexities(run, windows)))
  const strangers = comparable.filter(({ model, measures }, at) => model.id !== own && measures.length < (runs[at]?.measures.length ?? 0))
  return { runs: comparable, own, strangers: [...new Set(strangers.map(({ model }) => model.name))] }
}

/** Returns a key for each perplexity: its text and the hash of its windows. `evaluation` is in the order of the perplexities. */
function windowsOf({ measures, evaluation }: ComparedRun): string[] {
  const texts = measures.filter(({ name }) => name === 'perplexity')
  return texts.map(({ dataset }, at) => `${dataset} ${evaluation[at]?.hash}`)
}

function keepPerplexities(run: ComparedRun, known: ReadonlySet<string>): ComparedRun {
  const kept = windowsOf(run).map((windows) => known.has(windows))
  let index = 0
  const measures = run.measures.filter(({ name }) => name !== 'perplexity' || kept[index++])
  return { ...run, measures, evaluation: run.evaluation.filter((_, text) => kept[text]) }
}
