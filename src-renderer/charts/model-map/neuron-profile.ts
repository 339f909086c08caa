/** The scores of one block from the strongest neuron to the weakest, thinned out, and the position of the cut (0 to 1). */
interface NeuronProfile {
  values: number[]
  cutAt: number
  kept: number
  total: number
}

export function neuronProfile(scores: readonly number[], cut: number, points: number): NeuronProfile {
  const sorted = [...scores].sort((a, b) => b - a)
  const kept = sorted.filter((score) => score >= cut).length
  const count = Math.min(points, sorted.length)
  const values = Array.from(
    { length: count },
    (_, at) => sorted[count === 1 ? 0 : Math.round((at / (count - 1)) * (sorted.length - 1))] ?? 0,
  )
  return { values, cutAt: sorted.length === 0 ? 1 : kept / sorted.length, kept, total: sorted.length }
}

/** The path of the area under a profile, between `from` and `to` (shares of the width). */
export function profileArea(profile: NeuronProfile, from: number, to: number, width: number, height: number, top: number): string {
  const { values } = profile
  const points: string[] = []
  const last = Math.max(1, values.length - 1)
  for (const [at, value] of values.entries()) {
    const share = at / last
    if (share < from - 1e-9 || share > to + 1e-9) continue
    points.push(`${(share * width).toFixed(1)} ${(height - (value / top) * height).toFixed(1)}`)
  }
  if (points.length === 0) return ''
  const end = points.at(-1)?.split(' ')[0] ?? '0'
  const start = points[0]?.split(' ')[0] ?? '0'
  return `M${start} ${height}L${points.join('L')}L${end} ${height}Z`
}
