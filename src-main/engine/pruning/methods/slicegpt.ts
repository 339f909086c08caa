import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { slicedStackParameters } from '#engine/model/slice.ts'
import type { DecoderSpec } from '#engine/model/spec.ts'
import { stackParameters } from '#engine/model/spec.ts'
import { defineMethod } from '../method.ts'
import { densePlan } from '../plan.ts'
import { findRotations } from '../rotations.ts'

/**
 * SliceGPT (arXiv 2401.15024): the stream between submodules is turned to its principal components, and the last ones are cut off.
 *
 * With `compatible`, as the 2SSP reference does it: the mean of each embedding is taken off and norms use an epsilon of 1e-5 in every
 * family (22, 23). Repaired: the family comes from the model, not from its name, and every family works (25); the reached sparsity is
 * reported, and the width can be solved for it (24). Left out as they change nothing: the random turn of kept coordinates and the last PCA.
 */
const options = z.object({
  windows: z
    .number()
    .int()
    .positive()
    .default(256)
    .meta({ title: 'Windows', unit: 'windows', help: 'Calibration windows whose stream is analysed.' }),
  target: z.enum(['nominal', 'reached']).default('nominal').meta({
    title: 'Target',
    help: 'The sparsity is the share of the hidden width, as the reference has it, or the share of parameters that is reached.',
  }),
  widthMultiple: z.number().int().positive().default(8).meta({
    title: 'Width multiple',
    unit: 'channels',
    help: 'The width kept is rounded to a multiple: down, or to the nearest reached sparsity.',
  }),
  compatible: z.boolean().default(true).meta({
    title: 'As the reference',
    help: 'Takes the mean off embeddings and uses an epsilon of 1e-5 in every family; off, only where the family calls for it.',
  }),
})

type Options = z.infer<typeof options>

export const slicegpt = defineMethod({
  title: 'SliceGPT',
  paper: '2401.15024',
  summary: 'Turns the stream between submodules to its principal components and cuts the weakest off.',
  unit: 'width',
  options,
  windows: ({ windows }) => windows,
  range: (spec, { widthMultiple, target }) => ({
    least: 0,
    most:
      target === 'reached' ? reachedAt(spec, Math.min(widthMultiple, spec.hidden)) : 1 - Math.min(widthMultiple, spec.hidden) / spec.hidden,
  }),
  outline(spec, { sparsity }, chosen) {
    const reached = sparsity === 0 ? 0 : reachedAt(spec, widthFor(spec, sparsity, chosen))
    return { attentionRemoved: null, blocksRemoved: null, neuronsRemovedPerBlock: null, reached }
  },
  async plan({ view, calibration, budget, options: chosen, run }) {
    if (budget.sparsity === 0) return { plan: densePlan(view.spec), decisions: [], notes: [] }
    requireWhole(view.spec)
    const width = widthFor(view.spec, budget.sparsity, chosen)
    const epsilon = chosen.compatible ? 1e-5 : view.spec.norm.epsilon
    const centre = chosen.compatible || view.spec.norm.kind === 'layer'
    const tensors = await findRotations(
      view,
      calibration.slice(0, chosen.windows),
      { width, epsilon, centre },
      {
        progress: (done, total) => run.progress('Finding principal components', done, total, 'submodules'),
        signal: run.signal,
      },
    )
    const plan = { ...densePlan(view.spec), slice: { width, tensors: 'rotations.safetensors', epsilon } }
    const reached = reachedAt(view.spec, width)
    const notes = [
      `Hidden width ${width} of ${view.spec.hidden}: ${percent(1 - width / view.spec.hidden)} cut, ${percent(reached)} of the block stack's parameters removed.`,
    ]
    return { plan, decisions: [], notes, tensors }
  },
})

/** Attention and MLPs have to be there in every block: a stream that passes a removed one by would miss a change of basis. */
function requireWhole(spec: DecoderSpec): void {
  if (spec.blocks.some((layout) => !layout.attention || layout.width === 0)) {
    throw new EspalierError('infeasible', 'This model lacks submodules already; SliceGPT needs all of them. Start from the dense model.')
  }
}

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`

const reachedAt = (spec: DecoderSpec, width: number): number => 1 - slicedStackParameters(spec, width) / stackParameters(spec)

function widthFor(spec: DecoderSpec, sparsity: number, { target, widthMultiple }: Options): number {
  if (target === 'nominal') {
    const width = Math.floor((1 - sparsity) * spec.hidden)
    return requireWidth(width - (width % widthMultiple), sparsity, spec, widthMultiple)
  }
  const widths = Array.from({ length: Math.floor(spec.hidden / widthMultiple) }, (_, i) => (i + 1) * widthMultiple)
  const miss = (width: number) => Math.abs(reachedAt(spec, width) - sparsity)
  return requireWidth(
    widths.reduce((best, width) => (miss(width) < miss(best) ? width : best), widths[0] ?? 0),
    sparsity,
    spec,
    widthMultiple,
  )
}

function requireWidth(width: number, sparsity: number, spec: DecoderSpec, multiple: number): number {
  if (width > 0) return width
  throw new EspalierError(
    'infeasible',
    `Sparsity ${sparsity} leaves no multiple of ${multiple} of the hidden width ${spec.hidden}. Choose at most ${(1 - multiple / spec.hidden).toFixed(4)} or a smaller width multiple.`,
  )
}
