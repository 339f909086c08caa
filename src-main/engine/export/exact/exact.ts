import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { textConfig } from '#engine/architectures/index.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { ShapedTensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { shardsBytes } from '#engine/checkpoint/safetensors/write-shards.ts'
import { type PrunedLayout, prunedLayoutFile } from '#engine/model/views/pruned-layout.ts'
import { specWithPlan } from '#engine/model/views/sliced-spec.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { reachedSparsity } from '#engine/pruning/plan.ts'
import { type ExportFormat, type ExportRequest, keyValueBytes, tensorBytes, writeModelFolder } from '../format.ts'
import { modelCard, readParentCard } from '../model-card.ts'
import { packedConfig } from '../packed-config.ts'
import { type PackedBlock, packBlocks, sourceOf } from '../packing.ts'
import { prunedTensors } from '../pruned-tensors.ts'
import { slicedShapes, slicedTensors } from '../sliced-tensors.ts'
import { blockNames, lastProjections } from './block-names.ts'
import { moduleFile, moduleText, ownModelType } from './module.ts'

/**
 * A folder with only the remaining weights: removed submodules have no tensors, and every MLP has its own width. A generated module builds
 * such a model in transformers. Without the module, transformers refuses the folder instead of filling in random weights. Espalier opens
 * the folder without running code.
 */
export const exact: ExportFormat = {
  id: 'exact',
  order: 1,
  title: 'Exact folder',
  summary: 'Smallest folder, remaining weights only. Opens in Espalier, and in transformers 5 with trust_remote_code.',
  reopens: true,
  async outline(planned) {
    const { spec } = planned.model
    requireUnsliced(spec)
    const left = specWithPlan(spec, planned.plan)
    const packed = planned.plan.slice ? unpacked(left.blocks) : packBlocks(spec, left.blocks)
    requireCache(spec, packed)
    const attentions = packed.filter(({ attention }) => attention !== undefined).length
    const bytes = planned.plan.slice
      ? tensorBytes(slicedShapes(planned.model, planned.plan.slice))
      : tensorBytes(prunedTensors(planned, { removed: 'absent', blocks: packed }))
    return { bytes, keyValueBytes: keyValueBytes(spec, attentions), notes: [] }
  },
  async fileBytes(described) {
    const { model, plan } = described
    requireUnsliced(model.spec)
    const left = specWithPlan(model.spec, plan)
    const tensors: readonly ShapedTensorToWrite[] = plan.slice
      ? slicedShapes(model, plan.slice)
      : prunedTensors(described, { removed: 'absent', blocks: packBlocks(model.spec, left.blocks) })
    return shardsBytes(underFamilyNames(model.spec, tensors), model.checkpoint.shardBytes)
  },
  async write(request) {
    const { model, plan } = request
    requireUnsliced(model.spec)
    const view = viewWithPlan(model, plan, request.tensors)
    try {
      const { blocks } = view.spec
      const packed = plan.slice ? unpacked(blocks) : packBlocks(model.spec, blocks)
      const left = packed.map(({ attention, mlp }) => ({
        ...(mlp === undefined ? { width: 0 } : at(blocks, mlp)),
        attention: attention !== undefined,
      }))
      const tensors = plan.slice ? await slicedTensors(view, plan.slice) : prunedTensors(request, { removed: 'absent', blocks: packed })
      const hasModule = model.spec.router === undefined
      const family = familyConfig(model.checkpoint.config)
      requireCache(model.spec, packed)
      // The weights already contain the plan's tensors, so only its description remains.
      const { tensors: _, ...account } = plan
      const layout: PrunedLayout = {
        format: 1,
        parent: model.name,
        method: request.method,
        family: wordsOf(family),
        blocks: left,
        plan: account,
      }
      await writeModelFolder(request, {
        tensors: underFamilyNames(model.spec, tensors),
        config: configOf(request, family, packed, left),
        files: {
          [prunedLayoutFile]: `${JSON.stringify(layout)}\n`,
          ...(hasModule ? { [moduleFile]: moduleOf(request, family.model_type, packed) } : {}),
          'README.md': modelCard(request, hasModule ? cardText : mixtureText, await readParentCard(model)),
        },
      })
    } finally {
      view.dispose()
    }
  },
}

const cardText = `The folder holds only the remaining weights; removed submodules have no tensors. transformers 5 or newer opens it with \`trust_remote_code=True\`, which runs \`${moduleFile}\`; Espalier opens it without running it.`

const mixtureText = 'The folder holds only the remaining weights; removed experts and submodules have no tensors. Espalier opens it.'

function requireUnsliced(spec: DecoderSpec): void {
  if (spec.sliceWidth === undefined) return
  throw new EspalierError('infeasible', 'This model is already sliced and would be written unchanged. Copy its folder instead.')
}

/** Keeps every block, because in a sliced model each submodule expects the basis of the one before it. */
const unpacked = (blocks: DecoderSpec['blocks']): PackedBlock[] => blocks.map((_, index) => ({ attention: index, mlp: index }))

type Config = Record<string, unknown>
type FamilyConfig = Config & { readonly model_type: string }

/** Entries of the family's config that are replaced when writing, and restored when Espalier opens the folder. */
function wordsOf({ model_type, architectures }: FamilyConfig): NonNullable<PrunedLayout['family']> {
  return { model_type, ...(Array.isArray(architectures) ? { architectures: architectures.map(String) } : {}) }
}

/** The config of the language model, which some checkpoints have inside the config of a larger model. */
function familyConfig(config: Config): FamilyConfig {
  const own = textConfig(config)
  const type = String(own.model_type)
  // The name is inserted into the source of the module.
  if (!/^\w+$/.test(type))
    throw new EspalierError(
      'invalid',
      `config.json has "model_type" = ${JSON.stringify(type)}; a family's name has letters, digits and _ only.`,
    )
  return { ...own, model_type: type }
}

/** Renames tensors as in a model of the family by itself. */
function underFamilyNames<T extends ShapedTensorToWrite>(spec: DecoderSpec, tensors: readonly T[]): T[] {
  const prefix = spec.embedding.slice(0, -'embed_tokens.weight'.length)
  return tensors.map((tensor) => {
    if (tensor.name.startsWith(prefix)) return { ...tensor, name: `model.${tensor.name.slice(prefix.length)}` }
    return tensor.name === spec.head.weight ? { ...tensor, name: 'lm_head.weight' } : tensor
  })
}

function configOf(
  { model, plan }: ExportRequest,
  family: FamilyConfig,
  packed: readonly PackedBlock[],
  left: PrunedLayout['blocks'],
): Config {
  const { spec } = model
  const own = {
    ...packedConfig(spec, family, packed),
    model_type: ownModelType(family.model_type),
    architectures: ['PrunedForCausalLM'],
    num_hidden_layers: packed.length,
  }
  // The module builds only blocks with one MLP, so mixtures get no module.
  if (spec.router) return own
  const auto_map = { AutoConfig: `${moduleName}.PrunedConfig`, AutoModelForCausalLM: `${moduleName}.PrunedForCausalLM` }
  if (!plan.slice) return { ...own, auto_map, blocks_left: left.map(({ attention, width }) => ({ attention, mlp: width })) }
  const { width, epsilon = spec.norm.epsilon } = plan.slice
  return {
    ...own,
    auto_map,
    stream_width: width,
    stream_epsilon: epsilon,
    head_dim: spec.headSize,
    // Embeddings are stored rotated and scaled, so the head is a separate tensor.
    tie_word_embeddings: false,
    ...('embedding_multiplier' in family ? { embedding_multiplier: 1 } : {}),
  }
}

const moduleName = moduleFile.replace(/\.py$/, '')

function moduleOf(request: ExportRequest, family: string, packed: readonly PackedBlock[]): string {
  const { model, plan } = request
  const { spec } = model
  const names = blockNames(spec)
  return moduleText({
    family,
    account: accountOf(request, packed),
    names,
    ...(plan.slice
      ? {
          sliced: {
            last: lastProjections(spec),
            finalNorm: spec.finalNorm.weight.split('.').at(-2) ?? 'norm',
            finalNormBias: spec.finalNorm.bias !== undefined,
            parallel: spec.parallelResidual,
          },
        }
      : {}),
  })
}

/** What was removed, in the module's words. */
function accountOf({ model, plan, method }: ExportRequest, packed: readonly PackedBlock[]): string {
  const share = (100 * reachedSparsity(model.spec, plan)).toFixed(2)
  const title = `${model.name}, pruned with Espalier by ${method}: ${share} % of the parameters of the block stack were removed.`
  if (plan.slice)
    return `${title}\n\nThe stream between submodules was turned to its principal components and has ${plan.slice.width} of ${model.spec.hidden} coordinates left.`
  const rows = packed.map(({ attention, mlp }, index) => {
    const own = mlp === undefined ? undefined : plan.blocks[mlp]?.mlp
    const width = mlp === undefined ? 0 : at(model.spec.blocks, mlp).width
    const kept = own === undefined || own === 'removed' ? 0 : own.kept === 'all' ? width : own.kept.length
    return `${String(index).padStart(5)}  ${(attention === undefined ? 'none' : `of block ${attention}`).padEnd(13)}  ${mlp === undefined ? 'none' : `${kept} of ${width} neurons of block ${mlp}`}`
  })
  return [title, '', 'What is left, by the blocks of the dense model:', '', 'block  attention      MLP', ...rows].join('\n')
}

/**
 * The cache of transformers asks attention of the first softmax block's kind for the number of tokens so far; other kinds cannot answer.
 * Throws if no attention of this kind remains.
 */
function requireCache({ router, perBlock }: DecoderSpec, packed: readonly PackedBlock[]): void {
  const types = perBlock?.layer_types
  // Folders of mixtures have no module for transformers.
  if (!types || router) return
  const kindOf = (block: PackedBlock) => types[sourceOf(block)]
  const asked = packed.map(kindOf).find((kind) => kind !== 'linear_attention')
  const left = packed.filter(({ attention }) => attention !== undefined)
  if (left.length === 0 || asked === undefined || left.some((block) => kindOf(block) === asked)) return
  throw new EspalierError(
    'infeasible',
    `This plan removes every attention submodule of the kind "${String(asked)}", but the cache of transformers needs one in this model. Choose the format stock, which writes zeros instead.`,
  )
}
