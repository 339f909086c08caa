import type { DatasetEntry } from '#contract/pruning/methods.ts'

/** An entry of a select. */
export interface Option<Value extends string> {
  readonly value: Value
  readonly title: string
}

/** Turns a table of titles into options. */
export function optionsOf<Value extends string>(titles: Readonly<Record<Value, string>>): Option<Value>[] {
  return (Object.entries(titles) as [Value, string][]).map(([value, title]) => ({ value, title }))
}

/** Turns numbers of tokens into options. */
export function tokenOptions(counts: readonly number[]): Option<string>[] {
  return counts.map((count) => ({ value: String(count), title: count.toLocaleString('en') }))
}

/** Turns texts into options, and marks those that would be downloaded. */
export function textOptions(datasets: readonly DatasetEntry[]): Option<string>[] {
  return datasets.map(({ source, title, present }) => ({ value: source, title: present ? title : `${title} (will be downloaded)` }))
}
