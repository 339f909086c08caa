/**
 * The entry at an index. Throws where there is none, so that a wrong index fails and is not counted as 0.
 *
 * It is called with arrays of every kind, which makes it slow in inner loops: read there with `values[i] ?? outside(values, i)`.
 */
export const at = <T>(values: ArrayLike<T>, index: number): T => values[index] ?? outside(values, index)

/** Throws for an index that an array does not have: a bug, not a mistake of the user. */
export function outside({ length }: ArrayLike<unknown>, index: number): never {
  throw new RangeError(`Index ${index} is outside an array of ${length} entries.`)
}
