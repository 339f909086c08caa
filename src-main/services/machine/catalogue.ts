import type { OptionTitle } from '#contract/comparison/sparsity-table.ts'
import { type Catalogue, catalogue } from '#contract/pruning/methods.ts'
import type { Calls, Context } from '../context.ts'
import { Service } from '../service.ts'
import { askDesk } from './ask-desk.ts'

export class CatalogueService extends Service {
  readonly calls: Calls<'methods'> = { 'methods.list': (_, signal) => askCatalogue(this.parts, signal) }
}

/**
 * Asks the engine, in the desk's compute process, for all methods, data sets, tasks and formats. Nothing is cached, because data sets can
 * appear on this machine at any time.
 */
export async function askCatalogue({ desk }: Pick<Context, 'desk'>, signal?: AbortSignal): Promise<Catalogue> {
  return catalogue.parse(await askDesk(desk, { kind: 'catalogue' }, signal))
}

/** Returns a function that looks up the label of a method's option, as forms show it, or returns the option's name if there is none. */
export async function optionTitles(context: Pick<Context, 'desk'>): Promise<OptionTitle> {
  const { methods, ablations } = await askCatalogue(context)
  const labels = new Map(
    [...methods, ...ablations].flatMap(({ id, options }) => options.map(({ name, label }) => [`${id} ${name}`, label])),
  )
  return (method, option) => labels.get(`${method} ${option}`) ?? option
}
