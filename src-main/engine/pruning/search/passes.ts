import type { Variant } from './trunk.ts'

/** How many windows passed attention submodules, MLPs and the head. */
export interface PassCount {
  attention: number
  mlp: number
  head: number
  /** Passes through attention or MLPs that remembered results replaced. */
  recalled?: number
}

/** Counts the passes of variants that share a branch until they differ, for one window. The path along `trunk` is not counted. */
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

/** Returns the number of parts before the first one in which two variants differ. */
export function commonParts(a: Variant, b: Variant): number {
  const part = a.findIndex((bit, index) => bit !== b[index])
  return part < 0 ? a.length : part
}

/** Returns the passes of windows through `blocks` blocks. Pass a fraction of the windows to count a pruned model. */
export function stackPasses(blocks: number, windows: number, head = 0): PassCount {
  return { attention: windows * blocks, mlp: windows * blocks, head }
}

/** Cost of a pass that shows the inputs of its projections, relative to one that does not. Streams are kept and copied meanwhile. */
export const watched = 1.5

export function timesPasses({ attention, mlp, head }: PassCount, times: number): PassCount {
  return { attention: attention * times, mlp: mlp * times, head: head * times }
}

export function addPasses(...counts: readonly PassCount[]): PassCount {
  const sum = (key: keyof PassCount) => counts.reduce((total, count) => total + (count[key] ?? 0), 0)
  const recalled = sum('recalled')
  return { attention: sum('attention'), mlp: sum('mlp'), head: sum('head'), ...(recalled > 0 ? { recalled } : {}) }
}
