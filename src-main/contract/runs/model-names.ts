import type { RunEntry } from './runs.ts'

type Used = Pick<RunEntry, 'model' | 'fingerprint' | 'createdAt'>

/**
 * Names the model of each run. If the files of a model were replaced, runs of earlier content are of the `older` one; several are
 * numbered, the oldest first.
 */
export function modelNames(runs: readonly Used[]): (run: Omit<Used, 'createdAt'>) => string {
  const lastUse = new Map<string, Map<string, number>>()
  for (const { model, fingerprint, createdAt } of runs) {
    if (fingerprint === null) continue
    const contents = lastUse.get(model.id) ?? new Map<string, number>()
    contents.set(fingerprint, Math.max(createdAt, contents.get(fingerprint) ?? 0))
    lastUse.set(model.id, contents)
  }
  return ({ model, fingerprint }) => {
    const contents = [...(lastUse.get(model.id) ?? [])]
    if (contents.length < 2) return model.name
    const older = contents.sort(([, one], [, other]) => one - other).slice(0, -1)
    const at = older.findIndex(([content]) => content === fingerprint)
    if (at < 0) return model.name
    return `${model.name} (older${older.length > 1 ? ` ${at + 1}` : ''})`
  }
}

/** The same runs, with the name of each model as `modelNames` gives it. */
export function withModelNames<Run extends Used>(runs: readonly Run[]): Run[] {
  const nameOf = modelNames(runs)
  return runs.map((run) => {
    const name = nameOf(run)
    return name === run.model.name ? run : { ...run, model: { ...run.model, name } }
  })
}

/** Whether the runs used more than one model, or one model before and after it was replaced. */
export function hasSeveralModels(runs: readonly Used[]): boolean {
  const nameOf = modelNames(runs)
  return new Set(runs.map((run) => `${run.model.id} ${nameOf(run)}`)).size > 1
}
