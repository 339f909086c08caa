import type { Catalogue, MethodEntry } from '#contract/methods.ts'
import { call } from '../api.ts'
import { type SeriesStyle, seriesStyle } from './series.ts'

let value = $state.raw<Catalogue | null>(null)
let pending: Promise<Catalogue> | null = null

/** Methods, data sets, tasks and formats that this workbench knows; asked for once. */
export const catalogue = {
  get value(): Catalogue | null {
    return value
  },
  get methodIds(): string[] {
    return value?.methods.map(({ id }) => id) ?? []
  },
  method(id: string): MethodEntry | undefined {
    return value?.methods.find((entry) => entry.id === id)
  },
  /** `2SSP` for `2ssp`; the dense baseline is no registered method and is called so. */
  title(id: string): string {
    return id === 'dense' ? 'Dense' : (catalogue.method(id)?.title ?? id)
  },
  style(id: string): SeriesStyle {
    return seriesStyle(catalogue.methodIds, id)
  },
}

export async function loadCatalogue(): Promise<Catalogue> {
  pending ??= call('methods.list', {})
  try {
    value = await pending
    return value
  } catch (thrown) {
    pending = null
    throw thrown
  }
}
