import type { DeltaShape } from './spec.ts'

/** What llama.cpp calls the tensors of a Gated DeltaNet, after the block. */
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

/** Norms whose offset a file has added to their weights: the one on what a DeltaNet reads has none. */
export const hasOffset = (tensor: string): boolean => tensor.endsWith('norm.weight') && ownName(tensor) !== deltaNames.readNorm

/** How fast a head forgets: models store a logarithm, files the negative rate. */
export const isDecay = (tensor: string): boolean => ownName(tensor) === deltaNames.decay

/** Whether value heads are columns of a tensor instead of rows. */
export const headsAreColumns = (tensor: string): boolean => ownName(tensor) === deltaNames.output

/**
 * Where each row of the model's tensor lies in a file, or each column of the output's. Models keep the value heads of a key head
 * together; llama.cpp takes one of every key head, then the next of each. Undefined where the order is the same.
 */
export function placesInFile(tensor: string, delta: DeltaShape | undefined): number[] | undefined {
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
  const found = heads[ownName(tensor)]
  if (!found) return undefined
  const [first, each] = found
  const share = valueHeads / keyHeads
  const inFile = (head: number) => (head % share) * keyHeads + Math.floor(head / share)
  return Array.from({ length: first + valueHeads * each }, (_, place) => {
    if (place < first) return place
    const head = Math.floor((place - first) / each)
    return first + inFile(head) * each + ((place - first) % each)
  })
}
