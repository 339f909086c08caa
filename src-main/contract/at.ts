/**
 * Returns the entry at an index. Throws if there is none, so that a wrong index fails instead of counting as 0.
 *
 * This function is slow in inner loops, because it is called with arrays of every kind. Write `values[i] ?? outside(values, i)` there.
 */
export const at = <T>(values: ArrayLike<T>, index: number): T => values[index] ?? outside(values, index)

/** Throws for an index that an array does not have: a bug, not a mistake of the user. */
export function outside({ length }: ArrayLike<unknown>, index: number): never {
  throw new RangeError(`Index ${index} is outside an array of ${length} entries.`)
}
