import { denseMethod, isAblation, isInspection } from '../titles.ts'
import type { ComparedRun } from './compared-run.ts'

/** Whether a run's file is a pruned one: it was pruned in the run, or its model was saved by a run that pruned it. */
export const isPruned = ({ method, lineage }: Pick<ComparedRun, 'method' | 'lineage'>): boolean => method !== denseMethod || lineage.pruned

/** Returns a key of the dense model that a run's weights come from. A replaced model is another one. */
const ancestorOf = ({ lineage }: Pick<ComparedRun, 'lineage'>): string => JSON.stringify([lineage.model, lineage.content])

/** A model as it was, with the runs that a verdict on it is about. */
export interface JudgedModel {
  /** The id of the dense model. A model that was replaced keeps it. */
  readonly model: string | null
  readonly name: string
  readonly runs: ComparedRun[]
}

/**
 * Returns the models that a verdict can be about, with their runs, by a key of their content; the content of a model that was used last
 * comes first. Unpruned files of models without pruned ones are added to each as rivals. Those of the same model before it was replaced are
 * added too, because a verdict says what it leaves out.
 */
export function runsByModel(runs: readonly ComparedRun[]): Map<string, JudgedModel> {
  const files: ComparedRun[] = runs.filter(({ method }) => !isAblation(method) && !isInspection(method))
  const lastOf = (own: readonly ComparedRun[]) => Math.max(...own.map(({ createdAt }) => createdAt))
  const groups = [...Map.groupBy(files, ancestorOf)].sort(([, one], [, other]) => lastOf(other) - lastOf(one))
  const pruned = groups.filter(([, own]) => own.some(isPruned))
  const rivals = pruned.length > 0 ? groups.filter(([, own]) => !own.some(isPruned)).flatMap(([, own]) => own) : []
  const judged = pruned.length > 0 ? pruned : groups
  const named = judged.map(([key, own]): [string, JudgedModel] => {
    const model = own[0]?.lineage.model ?? null
    const isLatest = judged.find(([, others]) => others[0]?.lineage.model === model)?.[0] === key
    return [key, { model, name: `${nameOf(own)}${isLatest ? '' : ', before it was replaced'}`, runs: [...own, ...rivals] }]
  })
  return new Map(named)
}

/** The name of the dense model, if one of the runs used it. */
function nameOf(runs: readonly ComparedRun[]): string {
  const own = runs.find(({ model, lineage }) => model.id === lineage.model) ?? runs[0]
  return own?.model.name ?? ''
}
