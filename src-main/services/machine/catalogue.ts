import { type Catalogue, catalogue } from '#contract/pruning/methods.ts'
import type { Context, Service } from '../context.ts'
import { askDesk } from './ask-desk.ts'

/** Methods, data sets, tasks and formats, queried once from the engine. Whether data is present is checked every time. */
export function catalogueService({ desk }: Pick<Context, 'desk'>): Service<'methods'> & { catalogue(): Promise<Catalogue> } {
  const ask = async (signal?: AbortSignal) => catalogue.parse(await askDesk(desk, { kind: 'catalogue' }, signal))
  return { catalogue: ask, 'methods.list': (_, signal) => ask(signal) }
}
