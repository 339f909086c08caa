import { elements } from '../sizes.ts'

/**
 * Two shapes for an operation that repeats each input along dimensions where its size is one. Adjacent dimensions that are treated alike
 * are merged.
 */
interface JoinedShapes {
  /** The shape of the result, unmerged. */
  readonly whole: number[]
  /** The merged shape of the result, with at most four dimensions; `a` and `b` are the inputs' shapes in the same number of dimensions. */
  readonly shape: number[]
  readonly a: number[]
  readonly b: number[]
}

/** Joins the shapes of two inputs. Undefined if they do not fit, if the result is empty, or if more than four dimensions remain. */
export function joinedShapes(a: readonly number[], b: readonly number[]): JoinedShapes | undefined {
  const rank = Math.max(a.length, b.length)
  const padded = (shape: readonly number[]) => [...Array<number>(rank - shape.length).fill(1), ...shape]
  const [first, second] = [padded(a), padded(b)]
  const joined: { a: number; b: number; kind: string }[] = []
  for (const [i, one] of first.entries()) {
    const other = second[i] as number
    if (one !== other && one !== 1 && other !== 1) return undefined
    if (one === 1 && other === 1) continue
    const kind = one === other ? 'both' : one === 1 ? 'second' : 'first'
    const last = joined.at(-1)
    if (last?.kind === kind) Object.assign(last, { a: last.a * one, b: last.b * other })
    else joined.push({ a: one, b: other, kind })
  }
  const found = { a: joined.map((one) => one.a), b: joined.map((one) => one.b) }
  const shape = joined.map((one) => Math.max(one.a, one.b))
  const whole = first.map((one, i) => (one === 1 ? (second[i] as number) : one))
  return joined.length > 4 || elements(shape) === 0 ? undefined : { whole, shape, ...found }
}
