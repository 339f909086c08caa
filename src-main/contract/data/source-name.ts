/** The last part of a path, or the name of a data set: what others may see of it. */
export function sourceName(source: string): string {
  return source.split(/[\\/]/).filter(Boolean).at(-1) ?? source
}
