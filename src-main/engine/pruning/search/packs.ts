/** How variants are divided among walks. */
interface PackLimits {
  /** How many streams the workspace holds at once. */
  readonly fitting: number
  /** How many variants a walk should have, so that its products are large enough. Default: all of them. */
  readonly wanted?: number
}

/**
 * Divides variants into packs, one for each walk, in the order in which they leave the trunk. `starts[i]` is the position where variant i
 * leaves it.
 */
export function packVariants(starts: readonly number[], { fitting, wanted = starts.length }: PackLimits): number[][] {
  const size = Math.max(1, Math.min(fitting, wanted))
  const order = [...starts.keys()].sort((a, b) => (starts[a] as number) - (starts[b] as number))
  return Array.from({ length: Math.ceil(order.length / size) }, (_, pack) => order.slice(pack * size, (pack + 1) * size))
}
