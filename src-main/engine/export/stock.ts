import { EspalierError } from '#contract/errors.ts'
import type { BlockPlan } from '#contract/plan.ts'
import { viewWithPlan } from '#engine/model/view.ts'
import { type ExportFormat, modelCard, writeModelFolder } from './format.ts'
import { prunedTensors } from './pruned-tensors.ts'

/**
 * A folder of the model's own family that transformers and its kin load: blocks that went whole are left out and the others numbered
 * anew, MLPs share one width, a removed attention or MLP stays as a zeroed output projection, which costs its memory but adds nothing.
 */
export const stock: ExportFormat = {
  title: 'Stock safetensors folder',
  summary: 'Loads in transformers, vLLM and others as a model of its family; a removed attention stays as zeros.',
  async write(request) {
    const { model, plan } = request
    if (plan.slice)
      throw new EspalierError(
        'infeasible',
        'No model family has the shortcuts of a sliced model, so this format cannot hold it. Choose the format espalier.',
      )
    if (model.spec.blocks.some((layout) => !layout.attention || layout.width === 0)) {
      throw new EspalierError(
        'infeasible',
        `${model.name} lacks submodules already, and this format needs them as zeros. Export from the dense model it came from.`,
      )
    }
    const { blocks } = viewWithPlan(model, plan).spec
    const left = [...blocks.keys()].filter((index) => blocks[index]?.attention || (blocks[index]?.width ?? 0) > 0)
    const width = Math.max(1, ...left.map((index) => blocks[index]?.width ?? 0))
    const tensors = prunedTensors(model.checkpoint, model.spec, plan, { removed: 'zeroed', width, blocks: left })
    await writeModelFolder(request, {
      tensors,
      config: { ...renumbered(model.checkpoint.config, left), num_hidden_layers: left.length, intermediate_size: width },
      files: { 'README.md': modelCard(request, describe(plan.blocks, left, width)) },
    })
  },
}

/** Per-layer entries of a config for the blocks that are left: a list per layer, and the first sliding layer. */
function renumbered(config: Record<string, unknown>, left: readonly number[]): Record<string, unknown> {
  const { layer_types: types, max_window_layers: firstWindow } = config
  return {
    ...config,
    ...(Array.isArray(types) ? { layer_types: left.map((index) => types[index]) } : {}),
    ...(typeof firstWindow === 'number' ? { max_window_layers: left.filter((index) => index < firstWindow).length } : {}),
  }
}

function describe(blocks: readonly BlockPlan[], left: readonly number[], width: number): string {
  const zeroed = left.filter((index) => blocks[index]?.attention === 'removed')
  const empty = left.filter((index) => blocks[index]?.mlp === 'removed')
  return [
    `An ordinary model of its family: ${left.length} of ${blocks.length} blocks, numbered anew, every MLP ${width} neurons wide.`,
    zeroed.length > 0
      ? `Attention removed from blocks ${zeroed.join(', ')} of the dense model stays as a zeroed output projection: it adds nothing to the answer but still takes memory and time.`
      : '',
    empty.length > 0 ? `MLPs removed from blocks ${empty.join(', ')} stay as zeroed down projections.` : '',
  ]
    .filter(Boolean)
    .join('\n')
}
