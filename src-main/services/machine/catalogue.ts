import type { OptionTitle } from '#contract/comparison/sparsity-table.ts'
import { type Catalogue, catalogue } from '#contract/pruning/methods.ts'
import type { Calls, Context } from '../context.ts'
import { Service } from '../service.ts'
import { askDesk } from './ask-desk.ts'

export class CatalogueService extends Service {
  readonly calls: Calls<'methods'> = { 'methods.list': (_, signal) => askCatalogue(this.parts, signal) }
}

/** Methods, data sets, tasks and formats, asked from the engine: whether data is present can change at any time. */
export async function askCatalogue({ desk }: Pick<Context, 'desk'>, signal?: AbortSignal): Promise<Catalogue> {
  return catalogue.parse(await askDesk(desk, { kind: 'catalogue' }, signal))
}

/** The labels of the methods' options, as forms show them. */
export async function optionTitles(context: Pick<Context, 'desk'>): Promise<OptionTitle> {
  const { methods, ablations } = await askCatalogue(context)
  const known = new Map([...methods, ...ablations].flatMap(({ id, options }) => options.map(({ name, label }) => [`${id} ${name}`, label])))
  return (method, option) => known.get(`${method} ${option}`) ?? option
}
