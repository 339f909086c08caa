import type { BlockPlan, MlpPlan, Plan, SlicePlan } from '#contract/pruning/plan.ts'
import {
  type BlockLayout,
  type BlockTensors,
  type DecoderSpec,
  type DeltaTensors,
  denseMlp,
  type NormTensors,
  type Projection,
} from '#engine/architectures/spec.ts'
import { attentionOf, mlpOf } from '../weights/weights.ts'
import { keptMixture, mixtureLayout } from './kept-experts.ts'
import { rotatedParts } from './slice.ts'

/**
 * The spec of the model that a plan leaves. Hidden channels that an MLP does not use are left out of its sizes, although files hold zeros
 * there.
 */
export function specWithPlan(spec: DecoderSpec, plan: Plan): DecoderSpec {
  const blocks = spec.blocks.map((layout, index) => {
    const { attention, mlp } = plan.blocks[index] ?? untouched
    return layoutAfter(layout, { attention, mlp })
  })
  const block: DecoderSpec['block'] = (index, name) =>
    withMlpPlan(spec.block(index, name), (plan.blocks[index] ?? untouched).mlp, spec.hidden)
  const left = { ...spec, blocks, block }
  return plan.slice ? slicedSpec(left, plan.slice) : left
}

const untouched: BlockPlan = { attention: 'kept', mlp: { kept: 'all' } }

/** The layout that a plan leaves of a block. */
export function layoutAfter(layout: BlockLayout, { attention, mlp }: BlockPlan): BlockLayout {
  const attends = layout.attention && attention === 'kept'
  if (mlp === 'removed') return { ...layout, attention: attends, width: 0 }
  if (layout.experts === undefined) return { attention: attends, width: keptWidth(layout.width, mlp) }
  return { ...mixtureLayout(layout, mlp), attention: attends }
}

const keptWidth = (width: number, { kept }: KeptMlp): number => (kept === 'all' ? width : Math.min(width, kept.length))

type KeptMlp = Exclude<MlpPlan, 'removed'>

/** A block's tensors with its MLP as narrow as a plan makes it. If gate and up share a tensor, up begins where gate ends. */
function withMlpPlan(tensors: BlockTensors, mlp: MlpPlan, hidden: number): BlockTensors {
  if (mlp === 'removed') return tensors
  if (tensors.mixture) return { ...tensors, mixture: keptMixture(tensors.mixture, mlp, hidden) }
  const { gate, up, down } = denseMlp(tensors)
  const width = keptWidth(up.rows, mlp)
  const inner = { rows: width, columns: mlp.inputs?.length ?? up.columns }
  const below = up.firstRow === 0 ? 0 : width
  return {
    ...tensors,
    ...(gate ? { gate: { ...gate, ...inner } } : {}),
    up: { ...up, ...inner, firstRow: below },
    down: { ...down, rows: mlp.outputs?.length ?? down.rows, columns: width },
  }
}

/** The spec of a model whose sliced weights are saved. It has narrower projections, shortcuts, and a head separate from the embedding. */
export function slicedSpec(dense: DecoderSpec, { width, epsilon }: SlicePlan): DecoderSpec {
  // Embeddings are stored as they enter the stream, already scaled and rotated.
  const { embeddingScale: _scaledAlready, ...spec } = dense
  const rotated = rotatedParts(spec)
  const tied = spec.head.weight === spec.embedding
  return {
    ...spec,
    sliceWidth: width,
    norm: { ...spec.norm, kind: 'rms', epsilon: epsilon ?? spec.norm.epsilon, divisor: spec.hidden },
    headNorm: spec.norm,
    head: tied ? { ...spec.head, weight: 'lm_head.weight' } : spec.head,
    block: (index) => slicedBlock(spec.block(index), index, { width, full: spec.hidden, rotated }),
  }
}

interface Widths {
  readonly width: number
  readonly full: number
  readonly rotated: readonly number[]
}

function slicedBlock(tensors: BlockTensors, index: number, { width, full, rotated }: Widths): BlockTensors {
  const { query, key, value, queryNorm, keyNorm, delta, output, attentionNorm, mlpNorm } = tensors
  const { gate, up, down } = denseMlp(tensors)
  const [attention, mlp] = [attentionOf(index), mlpOf(index)]
  const widthAfter = (part: number) => (rotated.some((later) => later > part) ? width : full)
  const prefix = /^(.*?\.\d+\.)/.exec(query.weight)?.[1] ?? `blocks.${index}.`
  const shortcut = (name: string, part: number): Projection => ({
    weight: `${prefix}${name}`,
    firstRow: 0,
    rows: width,
    columns: widthAfter(part),
  })
  return {
    ...(attentionNorm ? { attentionNorm: bareNorm(attentionNorm, width) } : {}),
    query: { ...query, columns: width },
    key: { ...key, columns: width },
    value: { ...value, columns: width },
    ...(queryNorm ? { queryNorm } : {}),
    ...(keyNorm ? { keyNorm } : {}),
    ...(delta ? { delta: narrowDelta(delta, width) } : {}),
    output: { ...output, rows: widthAfter(attention) },
    ...(mlpNorm ? { mlpNorm: bareNorm(mlpNorm, width) } : {}),
    ...(gate ? { gate: { ...gate, columns: width } } : {}),
    up: { ...up, columns: width },
    down: { ...down, rows: widthAfter(mlp) },
    attentionShortcut: shortcut('attention_shortcut', attention),
    ...(rotated.includes(mlp) ? { mlpShortcut: shortcut('mlp_shortcut', mlp) } : {}),
  }
}

const narrowDelta = (delta: DeltaTensors, columns: number): DeltaTensors => ({
  ...delta,
  gate: { ...delta.gate, columns },
  strength: { ...delta.strength, columns },
  rate: { ...delta.rate, columns },
})

/** A norm whose weights moved into the next projections. It is saved as ones, so that the block still has all tensors of its family. */
const bareNorm = ({ weight }: NormTensors, size: number): NormTensors => ({ weight, size, ones: true })
