import { EspalierError } from '#contract/errors.ts'
import { formatTitles } from '#contract/titles.ts'
import { readSpec, textConfig } from '#engine/architectures/index.ts'
import { viewWithPlan } from '#engine/model/view.ts'
import { type ExportFormat, writeModelFolder } from './format.ts'
import { modelCard, readParentCard } from './model-card.ts'
import { packedConfig } from './packed-config.ts'
import { missingParts, type PackedBlock, packBlocks } from './packing.ts'
import { prunedTensors } from './pruned-tensors.ts'

/**
 * A folder of the model's own family that transformers and its kin load: blocks that went whole are left out, neighbours that lack each
 * other's half share one, and all are numbered anew. MLPs share one width; a removed attention or MLP whose place is still needed stays
 * as zeros, which cost memory but add nothing.
 */
export const stock: ExportFormat = {
  title: formatTitles.stock,
  summary: 'Loads in transformers, vLLM and others as a model of its family; a removed attention stays as zeros.',
  check({ sliced }) {
    if (!sliced) return
    throw new EspalierError(
      'infeasible',
      'No model family has the shortcuts of a sliced model, so this format cannot hold it. Choose the format exact.',
    )
  },
  async write(request) {
    const { model, plan } = request
    stock.check?.({ spec: model.spec, sliced: plan.slice !== undefined || model.spec.sliceWidth !== undefined })
    const { blocks } = viewWithPlan(model, plan, request.tensors).spec
    const packed = packBlocks(model.spec, blocks)
    const width = Math.max(1, ...blocks.map((block) => block.width))
    const config = textConfig(model.checkpoint.config)
    const alone = config !== model.checkpoint.config
    const names = alone ? { names: readSpec(config, model.spec.blocks) } : {}
    const tensors = prunedTensors(request, { removed: 'zeroed', width: () => width, blocks: packed, ...names })
    const holds =
      describe(packed, blocks.length, width) + (alone ? '\nIt is the text part of the model alone: what sees images is left out.' : '')
    await writeModelFolder(request, {
      tensors,
      config: { ...packedConfig(model.spec, config, packed), num_hidden_layers: packed.length, intermediate_size: width },
      files: { 'README.md': modelCard(request, holds, await readParentCard(model)) },
    })
  },
}

function describe(packed: readonly PackedBlock[], count: number, width: number): string {
  const zeroed = missingParts(packed)
  return [
    `An ordinary model of its family: ${packed.length} blocks in place of ${count}, numbered anew, every MLP ${width} neurons wide.`,
    packed.some(({ attention, mlp }) => attention !== undefined && mlp !== undefined && attention !== mlp)
      ? 'An attention whose MLP was removed shares a block with the next MLP whose attention was removed, which computes the same.'
      : '',
    zeroed.attention.length > 0
      ? `Blocks ${zeroed.attention.join(', ')} have no attention: zeros stand in its place, which add nothing to the answer but still take memory and time.`
      : '',
    zeroed.mlp.length > 0 ? `Blocks ${zeroed.mlp.join(', ')} have no MLP: zeros stand in its place.` : '',
  ]
    .filter(Boolean)
    .join('\n')
}
