import { EspalierError } from '#contract/errors.ts'
import type { RunDescription } from '#contract/runs/runs.ts'
import { version } from '#contract/version.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { Context } from '../context.ts'
import { hidePlaces } from '../hide-places.ts'

/** Describes a run with everything needed to repeat it elsewhere. If `paths` is false, paths of this machine become names. */
export function describeRun({ history }: Pick<Context, 'history'>, row: RunRow, paths: boolean): RunDescription {
  const model = history.models.find(row.model)
  const { request, resolved } = history.documents.find(row.number)
  const description: RunDescription = {
    format: 'espalier run',
    formatVersion: 1,
    name: row.name,
    model: { name: model?.name ?? row.model, source: model?.source ?? null, description: model?.description ?? null },
    request: { ...request, options: { ...request.options, ...resolved } },
    version,
  }
  return paths ? description : hidePlaces(description)
}

/**
 * Finds the library model that a description refers to: by path, else by source, else by name, else any. It must also have the described
 * family, shape and size, if the description has them.
 */
export function findDescribedModel({ history }: Pick<Context, 'history'>, { model, request }: RunDescription): string {
  const library = history.models.list()
  const same = model.description && JSON.stringify([model.description.family, model.description.shape, model.description.parameters])
  const fits = (entry: (typeof library)[number]) =>
    same === null || JSON.stringify([entry.description.family, entry.description.shape, entry.description.parameters]) === same
  const found =
    library.find((entry) => entry.path === request.model && fits(entry)) ??
    library.find((entry) => model.source !== null && entry.source === model.source && fits(entry)) ??
    library.find((entry) => entry.name === model.name && fits(entry)) ??
    (same === null ? undefined : library.find(fits))
  if (found) return found.id
  throw new EspalierError(
    'not-found',
    `The library has no model like "${model.name}"${model.source ? ` (${model.source})` : ''}. Add it, or choose a model.`,
  )
}
