/** The decimal number that a float32 was most likely written as: 1e-5 for 0.000009999999747378752. */
export function toDecimal(single: number): number {
  const short = Number(single.toPrecision(7))
  return Math.fround(short) === single ? short : single
}
