/**
 * Returns the Pareto front, by rising x. Smaller is better on both axes; negate an axis on which larger is better. If two points of the
 * front differ by at most `tolerance` on x, only the one that is better on y is kept.
 */
export function paretoFront<P extends { x: number; y: number }>(points: readonly P[], tolerance = 0): P[] {
  const front: P[] = []
  for (const point of [...points].sort((a, b) => a.x - b.x || a.y - b.y)) {
    const last = front.at(-1)
    if (!last || point.y < last.y) front.push(point)
  }
  const kept: P[] = []
  for (const point of front.reverse()) {
    const next = kept.at(-1)
    if (!next || next.x - point.x > tolerance) kept.push(point)
  }
  return kept.reverse()
}
