import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { readSpec, substitutesExperts, textConfig } from '#engine/architectures/index.ts'
import type { BlockLayout, DecoderSpec } from '#engine/architectures/spec.ts'
import { elementBytes } from '#engine/checkpoint/dtypes.ts'
import { shardsBytes, type TensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { putColumns } from '#engine/checkpoint/transposed.ts'
import { packedConfig } from '#engine/export/companions.ts'
import { type ExportFormat, keyValueBytes, tensorBytes, writeModelFolder } from '#engine/export/format.ts'
import { modelCard, readParentCard } from '#engine/export/model-card.ts'
import type { Planned } from '#engine/export/pieces.ts'
import { missingParts, type PackedBlock, packBlocks, prunedTensors, zerosText } from '#engine/export/pruned-tensors.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'

/**
 * A folder of the model's own family, which transformers and similar programs load. Completely removed blocks are left out. An attention
 * submodule that lost its MLP shares a block with the next MLP that lost its attention. Blocks are renumbered, and all MLPs have the same
 * width. Where a block still needs a removed attention or MLP, zeros are written, which use memory but do not change the answer.
 */
export const stock: ExportFormat = {
  id: 'stock',
  order: 2,
  title: 'Stock safetensors folder',
  summary: 'Opens in transformers, vLLM and others as an ordinary model.',
  ...inFamilyNames((planned) => layOutStock(planned)),
}

/** The functions of a format that writes a safetensors folder with the family's own tensor names. */
export function inFamilyNames(
  layOut: (planned: Planned) => ReturnType<typeof layOutStock>,
): Pick<ExportFormat, 'reopens' | 'outline' | 'fileBytes' | 'write'> {
  return {
    reopens: true,
    async outline(planned) {
      const { tensors, packed, notes } = layOut(planned)
      return { bytes: tensorBytes(tensors), keyValueBytes: keyValueBytes(planned.model.spec, packed.length), notes }
    },
    async fileBytes(described) {
      return shardsBytes(layOut(described).tensors, described.model.checkpoint.shardBytes)
    },
    async write(request) {
      const { tensors, packed, sizes, notes, config } = layOut(request)
      await writeModelFolder(request, {
        tensors,
        config: { ...packedConfig(request.model.spec, config, packed), num_hidden_layers: packed.length, ...sizes },
        files: { 'README.md': modelCard(request, notes.join('\n'), await readParentCard(request.model)) },
      })
    },
  }
}

/** The tensors and the config of such a folder. With `constants`, experts may be vectors. */
export function layOutStock(planned: Planned, constants = false) {
  const { checkpoint, spec } = planned.model
  if (planned.plan.slice || spec.sliceWidth !== undefined)
    throw new EspalierError(
      'infeasible',
      'No model family has the shortcuts of a sliced model, so this format cannot hold it. Choose the format exact.',
    )
  const { blocks } = specWithPlan(spec, planned.plan)
  const packed = packBlocks(spec, blocks)
  if (packed.length === 0)
    throw new EspalierError(
      'infeasible',
      'All blocks of the model were removed, and its family has no model without blocks. Choose a lower sparsity.',
    )
  const isMixture = ({ mlp, attention }: PackedBlock) => spec.blocks[mlp ?? attention ?? 0]?.experts !== undefined
  const widest = (mixtures: boolean) => Math.max(1, ...blocks.map((own) => ((own.experts !== undefined) === mixtures ? own.width : 0)))
  const [width, expertWidth, experts] = [widest(false), widest(true), expertsOf(spec, blocks, packed, constants)]
  const config = textConfig(checkpoint.config)
  const alone = config !== checkpoint.config
  const names = alone ? { names: readSpec(config, spec.blocks) } : {}
  const separate = prunedTensors(planned, {
    removed: 'zeroed',
    width: (position) => (isMixture(at(packed, position)) ? expertWidth : width),
    experts,
    blocks: packed,
    ...names,
  })
  const tensors = spec.interleavesExperts ? interleaveExperts(separate) : separate
  const notes = describe(
    packed,
    blocks.length,
    spec.router ? `${expertWidth} neurons wide in each of ${experts} experts` : `${width} neurons wide`,
  )
  if (alone) notes.push('It has only the text part of the model, without the part that reads images.')
  const sizes = sizesOf(spec, config, { width, expertWidth, experts })
  requireShared(spec, { ...config, ...sizes })
  return { tensors, packed, sizes, config, notes }
}

const refuse = (why: string, format = 'exact') =>
  new EspalierError('infeasible', `This format cannot hold the model: ${why}. Choose the format ${format}.`)

/** Throws if a config with narrower experts would also make the shared expert narrower. */
function requireShared(spec: DecoderSpec, config: Record<string, unknown>): void {
  const mixture = spec.blocks.findIndex(({ experts }) => experts !== undefined)
  const widthIn = (own: DecoderSpec) => (mixture < 0 ? undefined : own.block(mixture).mixture?.shared?.up.rows)
  if (widthIn(spec) === undefined || widthIn(readSpec(config)) === widthIn(spec)) return
  throw refuse('its experts became narrower, but the config has one width for them and the shared expert')
}

/**
 * The number of experts in each mixture. Throws if it differs between blocks, if experts are constants that the format cannot hold, or if
 * the config cannot say which blocks have a mixture.
 */
function expertsOf(
  { router, blocks: dense, family }: DecoderSpec,
  blocks: readonly BlockLayout[],
  packed: readonly PackedBlock[],
  constants: boolean,
): number {
  const mixtures = blocks.filter(({ experts, width }) => experts !== undefined && width > 0)
  const counts = [...new Set(mixtures.map(({ experts }) => experts as number))]
  if (counts.length > 1)
    throw refuse(`its blocks have different numbers of experts (${counts.join(', ')}), but the config has one number for all`)
  if (!constants && mixtures.some((own) => own.constants))
    throw refuse('some of its experts are constants', substitutesExperts(family) ? 'exact or vllm-experts' : 'exact')
  if (router && packed.length < dense.length && dense.some(({ experts }) => experts === undefined))
    throw refuse('blocks were removed, and only some blocks of the model have experts')
  return counts[0] ?? dense.find(({ experts }) => experts !== undefined)?.experts ?? 0
}

/** The config's entries for the sizes of MLPs and experts. */
function sizesOf(
  { router, blocks }: DecoderSpec,
  config: Record<string, unknown>,
  { width, expertWidth, experts }: { width: number; expertWidth: number; experts: number },
): Record<string, unknown> {
  if (!router) return { intermediate_size: width }
  const [written, ...others] = router.countKeys as [string, ...string[]]
  const hasDense = blocks.some((block) => block.experts === undefined)
  return {
    ...(hasDense && config.intermediate_size !== undefined ? { intermediate_size: width } : {}),
    ...Object.fromEntries(others.map((key) => [key, undefined])),
    [written]: experts,
    [router.widthKey]: expertWidth,
  }
}

function describe(packed: readonly PackedBlock[], count: number, sizes: string): string[] {
  const zeroed = missingParts(packed)
  return [
    packed.length === count
      ? `An ordinary model of its family, every MLP ${sizes}.`
      : `An ordinary model of its family: ${packed.length} blocks instead of ${count}, renumbered, every MLP ${sizes}.`,
    packed.some(({ attention, mlp }) => attention !== undefined && mlp !== undefined && attention !== mlp)
      ? 'An attention whose MLP was removed shares a block with the next MLP whose attention was removed, which computes the same.'
      : '',
    zeroed.attention.length > 0 ? zerosText('attention', zeroed.attention) : '',
    zeroed.mlp.length > 0 ? zerosText('MLP', zeroed.mlp) : '',
  ].filter(Boolean)
}

const part = /^(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.(weight|bias)$/

/**
 * Joins the tensors of separate experts into gpt-oss's tensors for all experts, whose rows are inputs and in which gates and ups alternate.
 * Other tensors stay unchanged.
 */
function interleaveExperts(tensors: readonly TensorToWrite[]): TensorToWrite[] {
  const own = tensors.filter(({ name }) => part.test(name))
  const joined = Map.groupBy(own, ({ name }) => {
    const [, mixture = '', , projection = '', kind = ''] = part.exec(name) ?? []
    return `${mixture}.${projection === 'down' ? 'down' : 'gate_up'}_proj${kind === 'bias' ? '_bias' : ''}`
  })
  return [...tensors.filter(({ name }) => !part.test(name)), ...[...joined].map(([name, parts]) => joinParts(name, parts))]
}

/** Joins parts into one tensor of all experts. A bias is treated as a matrix with one column. */
function joinParts(name: string, parts: readonly TensorToWrite[]): TensorToWrite {
  const { dtype, shape } = at(parts, 0)
  const [rows = 1, columns = 1] = shape
  const step = name.includes('gate_up_proj') ? 2 : 1
  const experts = parts.length / step
  const isBias = shape.length === 1
  const each = step * rows * columns * elementBytes(dtype)
  return {
    name,
    dtype,
    shape: isBias ? [experts, step * rows] : [experts, columns, step * rows],
    async bytes() {
      const all = new Uint8Array(experts * each)
      for (const tensor of parts) {
        const [, , expert, projection] = part.exec(tensor.name) ?? []
        const first = step === 2 && projection === 'up' ? 1 : 0
        putColumns(await tensor.bytes(), elementBytes(dtype), all, Number(expert) * each, { rows, columns, step, first })
      }
      return all
    },
  }
}
