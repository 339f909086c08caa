import type { Tensor } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { SlicePlan } from '#contract/pruning/plan.ts'
import { textConfig } from '#engine/architectures/index.ts'
import {
  type BlockTensors,
  type DecoderSpec,
  denseMlp,
  mixerOwn,
  mixerProjections,
  type NormTensors,
  type Projection,
  type ShapedTensor,
} from '#engine/architectures/spec.ts'
import type { TensorInfo } from '#engine/checkpoint/checkpoint.ts'
import { type FloatDtype, fromFloat32 } from '#engine/checkpoint/dtypes.ts'
import { type ShapedTensorToWrite, shardsBytes, type TensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { packedConfig } from '#engine/export/companions.ts'
import { type ExportFormat, type ExportRequest, keyValueBytes, tensorBytes, writeModelFolder } from '#engine/export/format.ts'
import { modelCard, readParentCard } from '#engine/export/model-card.ts'
import { type PackedBlock, packBlocks, prunedTensors, sourceOf } from '#engine/export/pruned-tensors.ts'
import type { Model } from '#engine/model/model.ts'
import { storedDtype } from '#engine/model/views/plan-tensors.ts'
import { type PrunedLayout, prunedLayoutFile } from '#engine/model/views/pruned-layout.ts'
import { slicedSpec, specWithPlan } from '#engine/model/views/slice.ts'
import { type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { type AttentionWeights, blockOf, isAttention, type MlpWeights, mlpOfWeights, type Part } from '#engine/model/weights/weights.ts'
import { removedText } from '#engine/pruning/plan.ts'
import { type BlockNames, moduleFile, moduleText, ownModelType } from './module.ts'

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
  const title = `${model.name}, pruned with Espalier by ${method}: ${removedText(model.spec, plan)} were removed.`
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

/** Names of a block's modules in transformers, taken from the names of its tensors. */
function blockNames(spec: DecoderSpec): BlockNames {
  const { attentionNorm, attentionOutputNorm, mlpNorm, mlpOutputNorm } = spec.block(0)
  // With a parallel residual, both submodules use one norm, so it stays if one of them is removed.
  const shared = spec.parallelResidual
  return {
    attentions: [...new Set(spec.blocks.map((_, index) => moduleAt(spec.block(index).output.weight, -3)))],
    attentionNorms: shared ? [] : namesOf(attentionNorm, attentionOutputNorm),
    mlp: moduleAt(denseMlp(spec.block(0)).down.weight, -3),
    mlpNorms: shared ? [] : namesOf(mlpNorm, mlpOutputNorm),
    sharedNorms: shared ? namesOf(attentionNorm) : [],
  }
}

/** The projections that write the stream at the end of a block, as `module.name`. */
function lastProjections(spec: DecoderSpec): string[] {
  const { output } = spec.block(0)
  const { down } = denseMlp(spec.block(0))
  return (spec.parallelResidual ? [output, down] : [down]).map(({ weight }) => weight.split('.').slice(-3, -1).join('.'))
}

const moduleAt = (tensor: string, place: number): string => tensor.split('.').at(place) ?? tensor
const namesOf = (...norms: (NormTensors | undefined)[]): string[] => norms.flatMap((norm) => (norm ? [moduleAt(norm.weight, -2)] : []))

/** Rows of one stored tensor, starting at `firstRow`. */
interface Piece {
  readonly firstRow: number
  readonly values: Float32Array
}

type Pieces = Map<string, Piece[]>

/**
 * The tensors of a sliced model, in the checkpoint's dtype: the view's weights under the family's names, and the shortcuts. Unlike with
 * other plans, no weights are copied from the checkpoint unchanged, because every weight is rotated.
 */
async function slicedTensors(view: ModelView, plan: SlicePlan): Promise<TensorToWrite[]> {
  const { checkpoint, vocabulary, spec } = view.model
  const ids = Int32Array.from({ length: spec.vocabulary }, (_, id) => id)
  const embedding = async (dtype: FloatDtype) => {
    const rows = await vocabulary.embed(ids)
    const bytes = fromFloat32(rows.dataSync() as Float32Array, dtype)
    rows.dispose()
    return bytes
  }
  const blocks = new BlockWriter(view, plan)
  return slicedShapes(view.model, plan).map(({ block, source, ...tensor }) => {
    if (block !== undefined) return { ...tensor, bytes: () => blocks.bytes(block, tensor) }
    return { ...tensor, bytes: () => (source === undefined ? embedding(tensor.dtype) : checkpoint.read(source)) }
  })
}

/** A tensor of a sliced model: one of a block, a copy from the checkpoint, or the embedding. */
interface SlicedShape extends ShapedTensorToWrite {
  readonly dtype: FloatDtype
  readonly block?: number
  readonly source?: string
}

/** Names, types and shapes of the tensors of a sliced model. */
function slicedShapes({ checkpoint, spec: dense }: Pick<Model, 'checkpoint' | 'spec'>, plan: SlicePlan): SlicedShape[] {
  const spec = slicedSpec(dense, plan)
  const plain = (name: string, source: string): SlicedShape => {
    const { dtype, shape } = checkpoint.tensors.get(source) as TensorInfo
    return { name, dtype: dtype as FloatDtype, shape, source }
  }
  const norms = [spec.finalNorm.weight, ...(spec.finalNorm.bias ? [spec.finalNorm.bias] : [])]
  return [
    { name: spec.embedding, dtype: storedDtype(checkpoint, spec.embedding), shape: [spec.vocabulary, plan.width] },
    ...[...norms, ...(spec.head.bias ? [spec.head.bias] : [])].map((name) => plain(name, name)),
    plain(spec.head.weight, dense.head.weight),
    ...[...spec.blocks.keys()].flatMap((block) => {
      const dtype = storedDtype(checkpoint, denseMlp(dense.block(block)).up.weight)
      return [...storedShapes(spec.block(block))].map(([name, shape]) => ({ name, dtype, shape, block }))
    }),
  ]
}

/** Computes one block at a time, when the first of its tensors is written. */
class BlockWriter {
  readonly #view: ModelView
  readonly #plan: SlicePlan
  #current: { readonly block: number; readonly pieces: Promise<Pieces> } | undefined

  constructor(view: ModelView, plan: SlicePlan) {
    this.#view = view
    this.#plan = plan
  }

  async bytes(block: number, { name, dtype }: Pick<SlicedShape, 'name' | 'dtype'>): Promise<Uint8Array> {
    const pieces = (await this.#piecesOf(block)).get(name) ?? []
    const inOrder = pieces.toSorted((a, b) => a.firstRow - b.firstRow)
    return new Uint8Array(Buffer.concat(inOrder.map(({ values }) => fromFloat32(values, dtype))))
  }

  #piecesOf(block: number): Promise<Pieces> {
    if (this.#current?.block !== block) this.#current = { block, pieces: this.#compute(block) }
    return this.#current.pieces
  }

  async #compute(block: number): Promise<Pieces> {
    const pieces: Pieces = new Map()
    for (const part of this.#view.parts.filter((own) => blockOf(own) === block)) await addPart(pieces, this.#view, this.#plan, part)
    return pieces
  }
}

/** Shapes of a block's stored tensors by name. Projections that share a tensor are stacked. */
function storedShapes(tensors: BlockTensors): Map<string, number[]> {
  const shapes = new Map<string, number[]>()
  const { delta, ...others } = tensors
  for (const entry of [...Object.values(others), ...Object.values(delta ?? {})] as (Projection | NormTensors | ShapedTensor)[]) {
    if (!('rows' in entry)) {
      shapes.set(entry.weight, 'shape' in entry ? [...entry.shape] : [entry.size ?? 0])
      continue
    }
    const rows = Math.max(entry.firstRow + entry.rows, shapes.get(entry.weight)?.[0] ?? 0)
    shapes.set(entry.weight, [rows, entry.columns])
    if (entry.bias) shapes.set(entry.bias, [rows])
  }
  return shapes
}

async function addPart(pieces: Pieces, view: ModelView, plan: SlicePlan, part: Part): Promise<void> {
  const tensors = slicedSpec(view.model.spec, plan).block(blockOf(part))
  const weights = await view.lease(part)
  const norm = isAttention(part) ? tensors.attentionNorm : (tensors.mlpNorm ?? tensors.attentionNorm)
  if (norm) addNorm(pieces, norm, plan.width, view.model.spec.norm.offset)
  for (const own of isAttention(part) ? [tensors.queryNorm, tensors.keyNorm, ...mixerOwn(tensors)] : []) {
    if (own) pieces.set(own.weight, [{ firstRow: 0, values: await view.model.checkpoint.readFloat32(own.weight) }])
  }
  if (weights.attention) addAttention(pieces, tensors, weights.attention, view.spec.scoreScale)
  else addMlp(pieces, tensors, mlpOfWeights(weights))
  view.release(part, weights)
}

function addAttention(pieces: Pieces, tensors: BlockTensors, weights: AttentionWeights, scoreScale: number): void {
  const joined = read(weights.queryKeyValue)
  const biases = weights.queryKeyValueBias && read(weights.queryKeyValueBias)
  let row = 0
  const scaled = !weights.queryNorm && !weights.delta
  for (const projection of mixerProjections(tensors)) {
    // A view's queries were scaled when they were loaded, so the scale is divided out again.
    const factor = projection === tensors.query && scaled ? 1 / scoreScale : 1
    const rows = joined.subarray(row * projection.columns, (row + projection.rows) * projection.columns).map((value) => value * factor)
    const bias = biases?.subarray(row, row + projection.rows).map((value) => value * factor)
    addProjection(pieces, projection, rows, bias)
    row += projection.rows
  }
  addProjection(pieces, tensors.output, read(weights.output), weights.outputBias && read(weights.outputBias))
  addShortcut(pieces, tensors.attentionShortcut, weights.shortcut)
}

function addMlp(pieces: Pieces, tensors: BlockTensors, weights: MlpWeights): void {
  const { gate, up, down } = denseMlp(tensors)
  if (gate && weights.gate) addProjection(pieces, gate, read(weights.gate), weights.gateBias && read(weights.gateBias))
  addProjection(pieces, up, read(weights.up), weights.upBias && read(weights.upBias))
  addProjection(pieces, down, read(weights.down), weights.downBias && read(weights.downBias))
  addShortcut(pieces, tensors.mlpShortcut, weights.shortcut)
}

function addShortcut(pieces: Pieces, tensor: Projection | undefined, weights: Tensor | undefined): void {
  if (tensor && weights) addProjection(pieces, tensor, read(weights), undefined)
}

function addProjection(
  pieces: Pieces,
  { weight, bias, firstRow }: Projection,
  values: Float32Array,
  biasValues: Float32Array | undefined,
): void {
  const add = (name: string, piece: Piece) => pieces.set(name, [...(pieces.get(name) ?? []), piece])
  add(weight, { firstRow, values })
  if (bias && biasValues) add(bias, { firstRow, values: biasValues })
}

function addNorm(pieces: Pieces, { weight }: NormTensors, width: number, offset = 0): void {
  pieces.set(weight, [{ firstRow: 0, values: new Float32Array(width).fill(1 - offset) }])
}

const read = (tensor: Tensor): Float32Array => tensor.dataSync() as Float32Array
