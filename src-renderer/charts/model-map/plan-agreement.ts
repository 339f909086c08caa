import type { MlpPlan, Plan } from '#contract/pruning/plan.ts'

/** A block of the dense model: the neurons of its MLP, or of each of its experts. */
interface DenseBlock {
  readonly intermediate: number
  readonly experts?: number | undefined
}

/**
 * Says how far two plans agree, 0 to 1: per block, and as the mean over all blocks. Half of a block's agreement is its attention, half its
 * MLP. MLPs agree by the overlap of their kept neurons. A mixture counts the mean over all experts that either plan keeps or replaces.
 */
export function planAgreement(left: Plan, right: Plan, sizes: readonly DenseBlock[]): { blocks: number[]; share: number } {
  const blocks = left.blocks.map((mine, index) => {
    const [other, size] = [right.blocks[index], sizes[index]]
    if (!other || !size) return 0
    return (Number(mine.attention === other.attention) + mlpAgreement(mine.mlp, other.mlp, size)) / 2
  })
  return { blocks, share: blocks.length === 0 ? 1 : blocks.reduce((sum, value) => sum + value, 0) / blocks.length }
}

type KeptNeurons = 'all' | 'none' | Set<number>

function mlpAgreement(left: MlpPlan, right: MlpPlan, { intermediate, experts }: DenseBlock): number {
  if (experts === undefined) return overlap(keptNeurons(left), keptNeurons(right), intermediate)
  const [mine, others] = [expertsOf(left, experts), expertsOf(right, experts)]
  const agreements = mine.flatMap((state, expert) => {
    const other = others[expert] ?? 'none'
    if (state === 'none' && other === 'none') return []
    return state === 'constant' || other === 'constant' ? Number(state === other) : overlap(state, other, intermediate)
  })
  return agreements.length === 0 ? 1 : agreements.reduce((sum, value) => sum + value, 0) / agreements.length
}

function keptNeurons(mlp: MlpPlan): KeptNeurons {
  if (mlp === 'removed') return 'none'
  return mlp.kept === 'all' ? 'all' : new Set(mlp.kept)
}

/** The state of each expert under a plan. */
function expertsOf(mlp: MlpPlan, count: number): (KeptNeurons | 'constant')[] {
  return Array.from({ length: count }, (_, expert) => {
    if (mlp === 'removed') return 'none'
    if (mlp.constants?.includes(expert)) return 'constant'
    const place = mlp.experts ? mlp.experts.indexOf(expert) : expert
    if (place < 0) return 'none'
    const neurons = mlp.keptByExpert?.[place]
    return neurons ? new Set(neurons) : 'all'
  })
}

/** The number of neurons that both plans keep, divided by the number that either keeps. */
function overlap(left: KeptNeurons, right: KeptNeurons, neurons: number): number {
  if (left === right) return 1
  if (left === 'none' || right === 'none') return 0
  if (left === 'all') return (right as Set<number>).size / neurons
  if (right === 'all') return left.size / neurons
  let both = 0
  for (const neuron of left) if (right.has(neuron)) both += 1
  const either = left.size + right.size - both
  return either === 0 ? 1 : both / either
}
