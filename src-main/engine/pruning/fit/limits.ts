import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { blockParameters, stackParameters } from '#engine/architectures/count-parameters.ts'
import { type DecoderSpec, denseMlp, hasExperts } from '#engine/architectures/spec.ts'
import { attentionOf } from '#engine/model/weights/weights.ts'
import { splitTwoStage } from '../methods/2ssp.ts'
import { attentionRemovals, densePlan, equalCost, removeParts } from '../plan.ts'
import type { ProgrammeLimits, WidthPoints } from './programme.ts'

interface FittedOptions {
  readonly unit: number
  readonly least?: number | undefined
}

/** Widths at which the table is measured in addition to the base, as shares of the full width. */
const tableShares = [3 / 16, 5 / 16, 5 / 8, 1]
/** The base is the width that 2SSP chooses at this sparsity. */
const baseSparsity = 0.5

/** Returns the widths of the table, rounded to whole units, and the base among them. */
export function tableWidths(spec: DecoderSpec, { unit, least, width }: ProgrammeLimits): Pick<WidthPoints, 'base' | 'widths'> {
  const inUnits = (neurons: number) => Math.min(width, Math.max(least, unit, Math.round(neurons / unit) * unit))
  const base = inUnits(splitTwoStage(spec, baseSparsity, 1.5).neurons)
  const widths = [base, ...tableShares.map((share) => (share === 1 ? width : inUnits(share * width)))]
  return { base, widths: [...new Set(widths)].sort((a, b) => a - b) }
}

/** Throws unless all MLPs are equally wide and all attention submodules have one size. Blocks may lack attention. */
export function requireUniform(spec: DecoderSpec): void {
  const problem = unevenness(spec)
  if (problem) throw problem
}

function unevenness(spec: DecoderSpec): EspalierError | undefined {
  if (spec.router) return hasExperts()
  const width = at(spec.blocks, 0).width
  const sizes = spec.blocks.flatMap((block, index) => (block.attention ? [blockParameters(spec, index).attention] : []))
  if (width === 0 || spec.blocks.some((block) => block.width !== width))
    return new EspalierError('infeasible', 'Fitted widths need a model whose MLPs are all equally wide. Start from the dense model.')
  if (new Set(sizes).size > 1)
    return new EspalierError(
      'infeasible',
      `Fitted widths need attention of one size, but a ${spec.family} model has several sizes. Choose 2SSP or another method.`,
    )
  return undefined
}

/** Returns the parameters of one neuron: a row of each projection that reads the stream, and a column of the one that writes to it. */
export function neuronParameters(spec: DecoderSpec): number {
  const { gate, up } = denseMlp(spec.block(0))
  return (gate ? 3 : 2) * spec.hidden + (gate?.bias ? 1 : 0) + (up.bias ? 1 : 0)
}

/** Returns the limits within which the programme chooses at a sparsity. */
export function limitsOf(spec: DecoderSpec, sparsity: number, { unit, least }: FittedOptions): ProgrammeLimits {
  const width = at(spec.blocks, 0).width
  const neuron = neuronParameters(spec)
  const own = Math.min(unit, width)
  const total = width * spec.blocks.length
  return {
    unit: own,
    least: Math.min(width, Math.max(own, least ?? Math.round((3 / 16) * width))),
    width,
    attentionNeurons: (equalCost(spec, attentionRemovals(spec)) ?? 0) / neuron,
    budget: total - (sparsity * stackParameters(spec)) / neuron,
  }
}

/**
 * Returns the extremes that a fitted plan lies between. The first has even widths and keeps as much attention as possible. The other two
 * have the most uneven widths and remove as much attention as widths can make up for, from the last blocks or from the first.
 */
export function extremePlans(spec: DecoderSpec, { unit, least, width, budget, attentionNeurons }: ProgrammeLimits): Plan[] {
  const count = spec.blocks.length
  const inUnits = (neurons: number) => unit * Math.floor(neurons / unit)
  const attentionParts = spec.blocks.flatMap((block, index) => (block.attention ? [attentionOf(index)] : []))
  const most = Math.min(attentionParts.length, Math.floor((count * width - budget) / attentionNeurons))
  let room = budget + most * attentionNeurons - count * least
  const uneven = spec.blocks.map(() => {
    const more = Math.max(0, Math.min(width - least, inUnits(room)))
    room -= more
    return least + more
  })
  const fewest = Math.min(most, Math.max(0, Math.ceil((count * least - budget) / attentionNeurons)))
  const shared = inUnits((budget + fewest * attentionNeurons) / count)
  const even = Array.from({ length: count }, () => Math.min(width, Math.max(least, shared)))
  const withWidths = (widths: readonly number[], removed: readonly number[]): Plan => {
    const plan = removeParts(densePlan(spec), removed)
    return { blocks: plan.blocks.map((block, i) => ({ ...block, mlp: { kept: Array.from({ length: at(widths, i) }, (_, n) => n) } })) }
  }
  return [
    withWidths(even, attentionParts.slice(0, fewest)),
    withWidths(uneven, most === 0 ? [] : attentionParts.slice(-most)),
    withWidths(uneven, attentionParts.slice(0, most)),
  ]
}

/** Returns the largest sparsity, at which every MLP is as narrow as allowed and no attention is left. 0 for an unsupported model. */
export function mostRemoved(spec: DecoderSpec, chosen: FittedOptions): number {
  if (unevenness(spec)) return 0
  const { least, unit, width, attentionNeurons } = limitsOf(spec, 0, chosen)
  const narrowest = Math.ceil(least / unit) * unit
  const attentionCount = spec.blocks.filter(({ attention }) => attention).length
  return ((spec.blocks.length * (width - narrowest) + attentionCount * attentionNeurons) * neuronParameters(spec)) / stackParameters(spec)
}
