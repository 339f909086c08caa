import type { Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { DecoderSpec, Projection } from '#engine/architectures/spec.ts'
import { groupedTypes, type QuantisedRows } from '#engine/backend/fused.ts'
import { releaseBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import type { ReadBlocks } from '#engine/tensor/narrow.ts'
import { type Part, type PartWeights, partNames } from './weights.ts'

type Source = Pick<Projection, 'weight' | 'firstRow' | 'rows'>
type Read = Pick<Checkpoint, 'tensors' | 'readStored'>

/**
 * Returns, for each matrix of a part, a function that reads its quantised blocks from the GGUF file again. `kept` lists which of the file's
 * neurons the weights have. The map is empty for mixtures, and for files without quantised blocks.
 */
export function storedBlocks(
  { checkpoint, spec }: { readonly checkpoint: Checkpoint; readonly spec: DecoderSpec },
  part: Part,
  { attention, mlp }: PartWeights,
  kept: readonly number[] | 'all' = 'all',
): ReadonlyMap<Tensor2D, ReadBlocks> {
  const found = new Map<Tensor2D, ReadBlocks>()
  const names = partNames(spec, part) as Readonly<Record<string, Projection>>
  const add = (weight: Tensor2D | undefined, keys: readonly string[], factor = 1, rows: typeof kept = 'all') => {
    const sources = keys.flatMap((key) => names[key] ?? [])
    const read = sources.length === keys.length ? blocksReader(checkpoint, sources, factor, rows) : undefined
    if (weight && read) found.set(weight, read)
  }
  if (attention) {
    add(attention.queryKeyValue, ['query', 'key', 'value'], attention.queryNorm ? 1 : spec.scoreScale)
    add(attention.output, ['output'])
  }
  add(mlp?.gate, ['gate'], 1, kept)
  add(mlp?.up, ['up'], 1, kept)
  // Blocks run along rows, so they cannot be cut where columns of removed neurons were cut out.
  if (kept === 'all') add(mlp?.down, ['down'])
  return found
}

/**
 * Returns a function that reads the blocks of rows of several tensors, one after another. The first tensor's entries were multiplied by
 * `factor`.
 */
export function blocksReader(
  checkpoint: Read,
  sources: readonly Source[],
  factor = 1,
  kept: readonly number[] | 'all' = 'all',
): ReadBlocks | undefined {
  const types = sources.flatMap(({ weight }) => typeOf(checkpoint, weight) ?? [])
  if (types.length < sources.length) return undefined
  return async (use) => {
    const read = sources.map(async ({ weight, firstRow, rows }, index): Promise<QuantisedRows> => {
      const all = (await checkpoint.readStored?.(weight, { first: firstRow, count: rows })) ?? new Uint8Array()
      const described = { type: at(types, index), factor: index === 0 ? factor : 1 }
      return kept === 'all'
        ? { ...described, rows, blocks: all }
        : { ...described, rows: kept.length, blocks: gatherRows(all, all.byteLength / rows, kept) }
    })
    const found = await Promise.all(read)
    try {
      return use(found)
    } finally {
      for (const { blocks } of found) releaseBuffer(blocks)
    }
  }
}

function typeOf({ tensors, readStored }: Read, name: string): keyof typeof groupedTypes | undefined {
  const type = readStored && tensors.get(name)?.storedAs
  return type !== undefined && Object.hasOwn(groupedTypes, type) ? (type as keyof typeof groupedTypes) : undefined
}

/** Copies some rows, and releases the memory that all rows were read into. */
function gatherRows(bytes: Uint8Array, rowBytes: number, rows: readonly number[]): Uint8Array {
  const gathered = new Uint8Array(rows.length * rowBytes)
  for (const [index, row] of rows.entries()) gathered.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), index * rowBytes)
  releaseBuffer(bytes)
  return gathered
}
