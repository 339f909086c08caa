import type { Catalogue, MethodEntry } from '#contract/pruning/methods.ts'
import { ablationTitles, inspectionTitles, methodTitles, titleOfMethod } from '#contract/titles.ts'
import { call } from '../api/api.ts'
import { seriesStyle } from './series-style.ts'

let value = $state.raw<Catalogue | null>(null)
let pending: Promise<Catalogue> | null = null

/** Methods, data sets, tasks and formats that this workbench knows, loaded once. */
export const catalogue = {
  get value(): Catalogue | null {
    return value
  },
  /** A method or an ablation with its options. */
  method(id: string): MethodEntry | undefined {
    return [...(value?.methods ?? []), ...(value?.ablations ?? [])].find((entry) => entry.id === id)
  },
  /** Every value that a run's `method` can have, with its title. */
  methods: Object.entries({ ...methodTitles, ...ablationTitles, ...inspectionTitles }).map(([id, title]) => ({ id, title })),
  methodTitle: titleOfMethod,
  familyTitle: (id: string): string => value?.families.find((family) => family.id === id)?.title ?? id,
  style: seriesStyle,
  /** The label of an option of a method. */
  optionLabel: (method: string, name: string): string =>
    catalogue.method(method)?.options.find((option) => option.name === name)?.label ?? name,
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
