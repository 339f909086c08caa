import { expect, test } from 'vitest'
import { quantizeCommand, tensorTypeFile, typedMatrices, typesMap } from '../../../../../src-renderer/features/run/results/types-map.ts'

const choices = [
  { type: 'Q4_0', bytes: 18, price: 0.1 },
  { type: 'Q8_0', bytes: 34, price: 0.01 },
]
const tensor = (name: string) => ({ name, shape: [4, 8], choices })
const mixed = {
  bytes: 1000,
  divergence: 0.2,
  tokens: 64,
  tensors: ['token_embd.weight', 'blk.0.attn_q.weight', 'blk.0.ffn_down.weight', 'blk.1.ffn_down.weight'].map(tensor),
}
const types = {
  'token_embd.weight': 'Q8_0',
  'blk.0.attn_q.weight': 'Q4_0',
  'blk.0.ffn_down.weight': 'Q8_0',
  'blk.1.ffn_down.weight': 'Q4_0',
}

test('a matrix has the type that the plan chose, not the best one, and one without a type is left out', () => {
  const { 'token_embd.weight': _, ...others } = types
  const found = typedMatrices(mixed, { blocks: [], types: others })
  expect(found.map(({ name, type, bits }) => [name, type, bits])).toEqual([
    ['blk.0.attn_q.weight', 'Q4_0', 4.5],
    ['blk.0.ffn_down.weight', 'Q8_0', 8.5],
    ['blk.1.ffn_down.weight', 'Q4_0', 4.5],
  ])
})

test('the map has a row for each block and columns for the matrices that any block has; a removed part is empty', () => {
  const { rows, columns } = typesMap(typedMatrices(mixed, { blocks: [], types }))
  expect(columns).toEqual(['queries', 'MLP down'])
  expect(rows.map(({ label, cells }) => [label, cells.map(({ value }) => value)])).toEqual([
    ['0', [4.5, 8.5]],
    ['1', [0, 4.5]],
  ])
  expect(rows[1]?.cells[0]?.text).toBe('removed')
})

test('llama-quantize gets the types of blocks as anchored patterns, and those of embedding and head as options', () => {
  const matrices = typedMatrices(mixed, { blocks: [], types })
  expect(tensorTypeFile(matrices)).toBe(
    '^blk\\.0\\.attn_q\\.weight$=q4_0\n^blk\\.0\\.ffn_down\\.weight$=q8_0\n^blk\\.1\\.ffn_down\\.weight$=q4_0\n',
  )
  expect(quantizeCommand(matrices)).toBe(
    'llama-quantize --imatrix IMATRIX --tensor-type-file types.txt --token-embedding-type q8_0 F16.gguf MIXED.gguf Q4_K_M',
  )
})
