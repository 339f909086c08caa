import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Dialect, NormRole } from '#engine/architectures/dialect.ts'
import { dialectsOf } from '#engine/architectures/index.ts'
import {
  type BlockLayout,
  type BlockTensors,
  type DecoderSpec,
  denseMlp,
  type NormTensors,
  type Projection,
} from '#engine/architectures/spec.ts'
import { type PackedBlock, packBlocks } from '../packing.ts'
import type { TensorNames } from '../pruned-tensors.ts'

/** How a pruned model is laid out in a GGUF file: which architecture computes it, block by block. */
export interface GgufTarget {
  readonly dialect: Dialect
  readonly blocks: readonly PackedBlock[]
  /** Whether block sizes are stated one by one. */
  readonly perBlock: boolean
  readonly heads: readonly { readonly query: number; readonly keyValue: number }[]
  /** Neurons of every block as the format needs them, before any padding for quantisation. */
  readonly widths: readonly number[]
  readonly names: TensorNames
}

/** Neurons of zeros for a removed MLP if an architecture needs one. */
const leastWidth = 32

/** llama.cpp's own limit. */
const mostBlocks = 512

/**
 * The architecture that runs what is left of a model: the family's own where every block is whole and as wide as the others; else one
 * whose blocks may differ, where the family has such a relative; else the family's own with zeros in the place of what was removed.
 * Throws `infeasible` for what llama.cpp would answer wrongly or not survive, with what to choose instead.
 * @param padded widths to write instead of those of the plan, block by block
 */
export function chooseTarget(spec: DecoderSpec, left: readonly BlockLayout[], padded?: readonly number[]): GgufTarget {
  const family = dialectsOf(spec.family)
  if (!family) throw refuse(`GGUF files of the family ${spec.family} are not written`)
  const blocks = family.own.keepsPlaces ? left.map(ownPlace) : packBlocks(spec, left)
  if (blocks.length === 0) throw refuse('Nothing of the model is left')
  if (blocks.length > mostBlocks) throw refuse(`llama.cpp runs at most ${mostBlocks} blocks, this model has ${blocks.length}`)
  const widths = blocks.map(({ mlp }) => (mlp === undefined ? 0 : at(left, mlp).width))
  const whole = blocks.every(({ attention }) => attention !== undefined)
  const even = widths.every((width) => width > 0 && width === widths[0])
  const problem = family.own.problem(spec)
  const perBlock = family.perBlock?.problem(spec) === undefined ? family.perBlock : undefined
  if (problem === undefined && ((whole && even) || !perBlock)) {
    const widest = Math.max(leastWidth, ...widths)
    const common = widths.map(() => (even ? (widths[0] as number) : widest))
    return layOut(spec, family.own, blocks, padded ?? common, false)
  }
  if (!perBlock) throw refuse(problem ?? 'llama.cpp cannot run it')
  return layOut(spec, perBlock, blocks, padded ?? widths.map((width) => width || leastWidth), true)
}

const ownPlace = ({ attention, width }: BlockLayout, index: number): PackedBlock => ({
  attention: attention ? index : undefined,
  mlp: width > 0 ? index : undefined,
})

function refuse(reason: string): EspalierError {
  return new EspalierError('infeasible', `${reason}, so the format gguf cannot hold this model. Choose stock or exact.`)
}

function layOut(
  spec: DecoderSpec,
  dialect: Dialect,
  blocks: readonly PackedBlock[],
  widths: readonly number[],
  perBlock: boolean,
): GgufTarget {
  // Block 0 decides the head size in llama.cpp: without attention it gets one zeroed head, and so do all where none may lack it.
  const heads = blocks.map(({ attention }, position) => {
    if (attention !== undefined || !perBlock) return { query: spec.heads, keyValue: spec.keyValueHeads }
    const one = position === 0 || dialect.needsAttention ? 1 : 0
    return { query: one, keyValue: one }
  })
  const names = targetNames(spec, dialect, heads, widths)
  return { dialect, blocks, perBlock, heads, widths, names }
}

/** The names and shapes that an architecture gives a model's tensors. */
function targetNames(spec: DecoderSpec, dialect: Dialect, heads: GgufTarget['heads'], widths: readonly number[]): TensorNames {
  return {
    embedding: 'token_embd.weight',
    finalNorm: { weight: 'output_norm.weight', ...(spec.finalNorm.bias ? { bias: 'output_norm.bias' } : {}) },
    head: { weight: 'output.weight', ...(spec.head.bias ? { bias: 'output.bias' } : {}) },
    block: (_source, position = _source) => {
      const { query, keyValue } = at(heads, position)
      return blockNames(spec, dialect, `blk.${position}`, { query, keyValue, width: at(widths, position) })
    },
  }
}

interface BlockSizes {
  readonly query: number
  readonly keyValue: number
  readonly width: number
}

function blockNames(spec: DecoderSpec, dialect: Dialect, prefix: string, { query, keyValue, width }: BlockSizes): BlockTensors {
  const source = spec.block(0)
  const projection = (part: string, like: Projection, rows: number, columns: number): Projection => ({
    weight: `${prefix}.${part}.weight`,
    firstRow: 0,
    rows,
    columns,
    ...(like.bias ? { bias: `${prefix}.${part}.bias` } : {}),
  })
  const norm = (part: string, like: NormTensors): NormTensors => ({
    ...like,
    weight: `${prefix}.${part}.weight`,
    ...(like.bias ? { bias: `${prefix}.${part}.bias` } : {}),
  })
  const { headSize, hidden } = spec
  const { gate, up, down } = denseMlp(source)
  const fused = dialect.joinsQueryKeyValue ? 'attn_qkv' : undefined
  const norms = Object.fromEntries(
    Object.entries(dialect.norms).flatMap(([role, part]) => {
      const like = source[role as NormRole]
      return like ? [[role, norm(part, like)]] : []
    }),
  )
  return {
    ...norms,
    query: projection(fused ?? 'attn_q', source.query, query * headSize, hidden),
    key: projection(fused ?? 'attn_k', source.key, keyValue * headSize, hidden),
    value: projection(fused ?? 'attn_v', source.value, keyValue * headSize, hidden),
    output: projection('attn_output', source.output, hidden, query * headSize),
    ...(gate ? { gate: projection(dialect.joinsGateUp ? 'ffn_up' : 'ffn_gate', gate, width, hidden) } : {}),
    up: projection('ffn_up', up, width, hidden),
    down: projection('ffn_down', down, hidden, width),
  } as BlockTensors
}
