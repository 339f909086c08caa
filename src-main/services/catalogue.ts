import { type Catalogue, catalogue } from '#contract/methods.ts'
import type { Context, Service } from './context.ts'

/** Methods, data sets, tasks and formats, asked once of the engine. Whether data is present is asked every time. */
export function catalogueService({ desk }: Pick<Context, 'desk'>): Service<'methods'> & { catalogue(): Promise<Catalogue> } {
  const ask = async () => catalogue.parse(await desk.perform({ kind: 'catalogue' }).result)
  return { catalogue: ask, 'methods.list': ask }
}
