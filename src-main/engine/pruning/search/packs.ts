/** How variants are divided among walks. */
interface PackLimits {
  /** Streams that the workspace holds at once. */
  readonly fitting: number
  /** Variants that a walk should have, so that its products are large enough; all of them without it. */
  readonly wanted?: number
}

/** Packs of variants, each for one walk, those that leave the trunk first in front; `starts[i]` is where variant i leaves it. */
export function packVariants(starts: readonly number[], { fitting, wanted = starts.length }: PackLimits): number[][] {
  const size = Math.max(1, Math.min(fitting, wanted))
  const order = [...starts.keys()].sort((a, b) => (starts[a] as number) - (starts[b] as number))
  return Array.from({ length: Math.ceil(order.length / size) }, (_, pack) => order.slice(pack * size, (pack + 1) * size))
}
