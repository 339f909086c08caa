import type { Variant } from './trunk.ts'

/** Windows that passed through an attention, an MLP, the head. */
export interface PassCount {
  attention: number
  mlp: number
  head: number
  /** Passes through attention or MLP that were replaced by remembered outputs. */
  recalled?: number
}

/** The passes of variants that share a branch until they differ, for one window. The path along `trunk` is not counted. */
export function sharedPasses(variants: readonly Variant[], trunk?: Variant): PassCount {
  const passes = { attention: 0, mlp: 0, head: 0 }
  const sorted = variants.toSorted((a, b) => Buffer.compare(a, b))
  for (const [index, variant] of sorted.entries()) {
    const others = [sorted[index - 1], trunk].flatMap((other) => (other ? commonParts(variant, other) : []))
    const first = Math.max(0, ...others)
    for (let part = first; part < variant.length; part++) if (variant[part] === 0) passes[part % 2 === 0 ? 'attention' : 'mlp']++
    if (first < variant.length) passes.head++
  }
  return passes
}

/** How many parts two variants treat the same way before they differ. */
export function commonParts(a: Variant, b: Variant): number {
  const part = a.findIndex((bit, index) => bit !== b[index])
  return part < 0 ? a.length : part
}

/** Passes of windows through all blocks, or through the remaining share of them. */
export function stackPasses(blocks: number, windows: number, head = 0): PassCount {
  return { attention: windows * blocks, mlp: windows * blocks, head }
}

/** The cost of a pass that shows the inputs of its projections, relative to one that does not: streams are kept and copied meanwhile. */
export const watched = 1.5

export function timesPasses({ attention, mlp, head }: PassCount, times: number): PassCount {
  return { attention: attention * times, mlp: mlp * times, head: head * times }
}

export function addPasses(...counts: readonly PassCount[]): PassCount {
  const sum = (key: keyof PassCount) => counts.reduce((total, count) => total + (count[key] ?? 0), 0)
  const recalled = sum('recalled')
  return { attention: sum('attention'), mlp: sum('mlp'), head: sum('head'), ...(recalled > 0 ? { recalled } : {}) }
}
