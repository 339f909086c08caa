/** Endings of source code and other plain text. Folders of data sets are not searched for it. */
export const plainEndings: readonly string[] =
  'adoc bash c cc cfg cpp cs css cu dart el ex exs f90 fs go gradle h hpp hs htm html ini java jl js jsx kt lua m mjs ml nim org php pl ps1 py pyi r rb rs rst scala scss sh sql svelte swift tex toml ts tsx vb vue yaml yml zig'.split(
    ' ',
  )

/** Endings of data sets and of text. */
export const dataEndings = ['txt', 'text', 'md', 'jsonl', 'ndjson', 'parquet', 'arrow', 'json'] as const
export type DataEnding = (typeof dataEndings)[number]

export const isDataEnding = (ending: string): ending is DataEnding => (dataEndings as readonly string[]).includes(ending)

/** The ending of a file's name, without that of its compression. */
export const endingOf = (name: string): string => name.toLowerCase().replace(/\.gz$/, '').split('.').at(-1) ?? ''

/** Whether a file with this name can be read as text. */
export function isTextFile(name: string): boolean {
  const ending = endingOf(name)
  return name.includes('.') && (plainEndings.includes(ending) || isDataEnding(ending))
}
