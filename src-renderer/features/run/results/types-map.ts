import type { MixedTypes } from '#contract/pruning/mixed-types.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { HeatRow } from '../../../charts/heat-grid.ts'
import { formatBytes } from '../../../lib/format.ts'

/** A matrix of a file of mixed types with the type that was chosen for it. */
export interface TypedMatrix {
  /** llama.cpp's name of the tensor. */
  readonly name: string
  readonly type: string
  readonly bits: number
  readonly bytes: number
  readonly price: number
  readonly choices: MixedTypes['tensors'][number]['choices']
  readonly weights: number
}

/** The matrices with their chosen types, in the order of the file. */
export function typedMatrices({ tensors }: MixedTypes, { types = {} }: Plan): TypedMatrix[] {
  return tensors.flatMap(({ name, shape, choices }) => {
    const chosen = choices.find(({ type }) => type === types[name])
    const weights = shape.reduce((product, length) => product * length, 1)
    return chosen ? [{ name, ...chosen, bits: (8 * chosen.bytes) / weights, choices, weights }] : []
  })
}

/** Columns of the map: matrices of a block, by the end of their names, with what people call them. */
const columns: readonly (readonly [name: string, title: string])[] = [
  ['attn_q', 'queries'],
  ['attn_k', 'keys'],
  ['attn_v', 'values'],
  ['attn_qkv', 'queries, keys and values'],
  ['attn_output', 'attention output'],
  ['ffn_gate', 'MLP gate'],
  ['ffn_up', 'MLP up'],
  ['ffn_down', 'MLP down'],
  ['ffn_gate_exps', 'experts’ gate'],
  ['ffn_up_exps', 'experts’ up'],
  ['ffn_down_exps', 'experts’ down'],
]

/** The bits of each matrix of the blocks, as a heat map. Parts that were removed are empty. */
export function typesMap(matrices: readonly TypedMatrix[]): { rows: HeatRow[]; columns: string[] } {
  const places = new Map(
    matrices.flatMap((matrix) => {
      const [, block, part] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(matrix.name) ?? []
      return part === undefined ? [] : [[`${block} ${part}`, matrix]]
    }),
  )
  const blocks = 1 + Math.max(-1, ...[...places.keys()].map((place) => Number(place.split(' ')[0])))
  const used = columns.filter(([part]) => [...places.keys()].some((place) => place.endsWith(` ${part}`)))
  const rows = Array.from({ length: blocks }, (_, block) => ({
    label: String(block),
    title: `Block ${block}`,
    cells: used.map(([part]) => {
      const matrix = places.get(`${block} ${part}`)
      if (!matrix) return { value: 0, text: 'removed' }
      return { value: matrix.bits, text: `${matrix.type}, ${matrix.bits.toFixed(2)} bits, ${formatBytes(matrix.bytes)}` }
    }),
  }))
  return { rows, columns: used.map(([, title]) => title) }
}

/** The types of the blocks as a file for `llama-quantize --tensor-type-file`, which takes no comments. */
export const tensorTypeFile = (matrices: readonly TypedMatrix[]): string =>
  matrices
    .filter(({ name }) => name.startsWith('blk.'))
    .map(({ name, type }) => `^${name.replaceAll('.', '\\.')}$=${type.toLowerCase()}\n`)
    .join('')

/** The command of llama.cpp that writes the same types from a file in F16. */
export function quantizeCommand(matrices: readonly TypedMatrix[]): string {
  const typeOf = (tensor: string) => matrices.find(({ name }) => name === tensor)?.type.toLowerCase()
  const [embedding, head] = [typeOf('token_embd.weight'), typeOf('output.weight')]
  const others = [...(embedding ? [`--token-embedding-type ${embedding}`] : []), ...(head ? [`--output-tensor-type ${head}`] : [])]
  return ['llama-quantize --imatrix IMATRIX --tensor-type-file types.txt', ...others, 'F16.gguf MIXED.gguf Q4_K_M'].join(' ')
}
