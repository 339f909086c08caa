import { EspalierError } from '#contract/errors.ts'
import { formatTitles } from '#contract/titles.ts'
import { readSpec, textConfig } from '#engine/architectures/index.ts'
import { specWithPlan } from '#engine/model/views/sliced-spec.ts'
import { type ExportFormat, keyValueBytes, tensorBytes, writeModelFolder } from './format.ts'
import { modelCard, readParentCard } from './model-card.ts'
import { packedConfig } from './packed-config.ts'
import { blocksText, missingParts, type PackedBlock, packBlocks } from './packing.ts'
import { type Planned, prunedTensors } from './pruned-tensors.ts'

/**
 * A folder of the model's own family that transformers and its kin load: blocks that went whole are left out, neighbours that lack each
 * other's half share one, and all are renumbered. MLPs share one width; a removed attention or MLP whose place is still needed stays
 * as zeros, which cost memory but add nothing.
 */
export const stock: ExportFormat = {
  title: formatTitles.stock,
  summary: 'Opens in transformers, vLLM and others as an ordinary model. Removed attention is stored as zeros.',
  reopens: true,
  async outline(planned) {
    const { tensors, packed, notes } = layOutStock(planned)
    return { bytes: tensorBytes(tensors), keyValueBytes: keyValueBytes(planned.model.spec, packed.length), notes }
  },
  async write(request) {
    const { tensors, packed, width, notes, config } = layOutStock(request)
    await writeModelFolder(request, {
      tensors,
      config: { ...packedConfig(request.model.spec, config, packed), num_hidden_layers: packed.length, intermediate_size: width },
      files: { 'README.md': modelCard(request, notes.join('\n'), await readParentCard(request.model)) },
    })
  },
}

function layOutStock(planned: Planned) {
  const { checkpoint, spec } = planned.model
  if (planned.plan.slice || spec.sliceWidth !== undefined)
    throw new EspalierError(
      'infeasible',
      'No model family has the shortcuts of a sliced model, so this format cannot hold it. Choose the format exact.',
    )
  const { blocks } = specWithPlan(spec, planned.plan)
  const packed = packBlocks(spec, blocks)
  if (packed.length === 0)
    throw new EspalierError('infeasible', 'Nothing of the model is left, and its family has no model without blocks.')
  const width = Math.max(1, ...blocks.map((block) => block.width))
  const config = textConfig(checkpoint.config)
  const alone = config !== checkpoint.config
  const names = alone ? { names: readSpec(config, spec.blocks) } : {}
  const tensors = prunedTensors(planned, { removed: 'zeroed', width: () => width, blocks: packed, ...names })
  const notes = describe(packed, blocks.length, width)
  if (alone) notes.push('It is the text part of the model alone: what sees images is left out.')
  return { tensors, packed, width, config, notes }
}

function describe(packed: readonly PackedBlock[], count: number, width: number): string[] {
  const zeroed = missingParts(packed)
  return [
    packed.length === count
      ? `An ordinary model of its family, every MLP ${width} neurons wide.`
      : `An ordinary model of its family: ${packed.length} blocks instead of ${count}, renumbered, every MLP ${width} neurons wide.`,
    packed.some(({ attention, mlp }) => attention !== undefined && mlp !== undefined && attention !== mlp)
      ? 'An attention whose MLP was removed shares a block with the next MLP whose attention was removed, which computes the same.'
      : '',
    zeroed.attention.length > 0 ? `Attention in ${blocksText(zeroed.attention)}: replaced by zeros; still uses memory and time.` : '',
    zeroed.mlp.length > 0 ? `MLP in ${blocksText(zeroed.mlp)}: replaced by zeros.` : '',
  ].filter(Boolean)
}
