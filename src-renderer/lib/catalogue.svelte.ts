import type { Catalogue, MethodEntry } from '#contract/methods.ts'
import { call } from '../api.ts'
import { type SeriesStyle, seriesStyle } from './series.ts'

type Named = Pick<MethodEntry, 'id' | 'title'>

const storageKey = 'espalier.methods'

let value = $state.raw<Catalogue | null>(null)
let pending: Promise<Catalogue> | null = null
/** The engine takes seconds to start and tell its methods; names and colours are remembered from the last time. */
let methods = $state.raw<readonly Named[]>(remembered())

/** Methods, data sets, tasks and formats that this workbench knows; asked for once. */
export const catalogue = {
  get value(): Catalogue | null {
    return value
  },
  /** Methods by id and title, the dense baseline with them. */
  get methods(): readonly Named[] {
    return [{ id: 'dense', title: 'Dense' }, ...methods]
  },
  method(id: string): MethodEntry | undefined {
    return value?.methods.find((entry) => entry.id === id)
  },
  /** `2SSP` for `2ssp`; the dense baseline is no registered method and is called so. */
  title(id: string): string {
    return catalogue.methods.find((entry) => entry.id === id)?.title ?? id
  },
  style(id: string): SeriesStyle {
    const ids = methods.map((entry) => entry.id)
    return seriesStyle(ids, id)
  },
}

export async function loadCatalogue(): Promise<Catalogue> {
  pending ??= call('methods.list', {})
  try {
    value = await pending
    methods = value.methods
    localStorage.setItem(storageKey, JSON.stringify(methods.map(({ id, title }) => ({ id, title }))))
    return value
  } catch (thrown) {
    pending = null
    throw thrown
  }
}

function remembered(): readonly Named[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(storageKey) ?? '[]')
    return Array.isArray(stored) ? (stored as Named[]) : []
  } catch {
    return []
  }
}
