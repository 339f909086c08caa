import type { DeltaShape } from './spec.ts'

/** llama.cpp's names for the tensors of a Gated DeltaNet, after the block's prefix. */
export const deltaNames = {
  joined: 'attn_qkv.weight',
  gate: 'attn_gate.weight',
  strength: 'ssm_beta.weight',
  rate: 'ssm_alpha.weight',
  convolution: 'ssm_conv1d.weight',
  decay: 'ssm_a',
  rateBias: 'ssm_dt.bias',
  readNorm: 'ssm_norm.weight',
  output: 'ssm_out.weight',
} as const

const ownName = (tensor: string): string => tensor.replace(/^blk\.\d+\./, '')

/** Whether a norm has an offset, which GGUF files already add to its weights. The norm on a DeltaNet's result has none. */
export const hasOffset = (tensor: string): boolean => tensor.endsWith('norm.weight') && ownName(tensor) !== deltaNames.readNorm

/** Whether a tensor is the rate at which heads forget. Models store its logarithm, GGUF files the negative rate. */
export const isDecay = (tensor: string): boolean => ownName(tensor) === deltaNames.decay

/** Whether value heads are columns of a tensor instead of rows. */
export const headsAreColumns = (tensor: string): boolean => ownName(tensor) === deltaNames.output

interface Range {
  readonly first: number
  readonly count: number
}

/**
 * Where the rows of a model's tensor (for the output projection: the columns) are in a GGUF file. Models store the value heads of a key
 * head one after another. llama.cpp stores the first value head of every key head, then the second of each, and so on. Undefined if the
 * order is the same.
 */
export function rangesInFile(tensor: { name: string; shape: readonly number[] }, delta: DeltaShape | undefined): Range[] | undefined {
  if (!delta || delta.keyHeads === delta.valueHeads) return undefined
  const { keyHeads, valueHeads, keySize, valueSize } = delta
  const before = 2 * keyHeads * keySize
  const heads: Readonly<Record<string, readonly [before: number, each: number]>> = {
    [deltaNames.joined]: [before, valueSize],
    [deltaNames.convolution]: [before, valueSize],
    [deltaNames.gate]: [0, valueSize],
    [deltaNames.output]: [0, valueSize],
    ...Object.fromEntries([deltaNames.strength, deltaNames.rate, deltaNames.decay, deltaNames.rateBias].map((name) => [name, [0, 1]])),
  }
  const found = heads[ownName(tensor.name)]
  if (!found) return undefined
  const [first, each] = found
  const [size, unit] = headsAreColumns(tensor.name) ? [tensor.shape[1], 'columns'] : [tensor.shape[0], 'rows']
  const needed = first + valueHeads * each
  if (size !== needed) throw new Error(`its tensor ${tensor.name} has ${size} ${unit}, its heads need ${needed}`)
  const share = valueHeads / keyHeads
  const inFile = (head: number) => (head % share) * keyHeads + Math.floor(head / share)
  const values = Array.from({ length: valueHeads }, (_, head) => ({ first: first + inFile(head) * each, count: each }))
  return first > 0 ? [{ first: 0, count: first }, ...values] : values
}
