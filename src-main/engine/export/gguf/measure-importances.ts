import type { Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { blockTypeNamed } from '#engine/checkpoint/gguf/blocks.ts'
import { type MetadataEntries, writeGguf } from '#engine/checkpoint/gguf/write-gguf.ts'
import type { Windows } from '#engine/data/windows.ts'
import { runWindows } from '#engine/model/forward.ts'
import { productsOfFewDigits } from '#engine/model/precision.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf, isAttention } from '#engine/model/weights/weights.ts'
import { columnSums } from '#engine/tensor/column-sums.ts'
import type { GgufFile } from './gguf-file.ts'
import type { BlockImportances, Importances, PartImportances } from './importances.ts'

interface Report {
  readonly signal?: AbortSignal
  progress?(done: number, total: number): void
}

/** Measures the mean square of every input column of the pruned model's projections over the windows, as llama-imatrix does. */
export async function measureImportances(
  view: ModelView,
  windows: Windows,
  texts: readonly string[],
  report: Report = {},
): Promise<Importances> {
  const tokens = windows.reduce((sum, { length }) => sum + length, 0)
  const blocks: Sites[] = view.spec.blocks.map(() => ({}))
  await runWindows(view, windows, {
    ...report,
    endsBeforeOutput: true,
    products: productsOfFewDigits(view.model.products),
    observe({ batch, tokens: length }, part, seen) {
      const block = at(blocks, blockOf(part))
      const shape = { batch, tokens: length }
      if (isAttention(part)) block.attention = addSite(block.attention, seen.input, seen.inner, shape)
      else if (!seen.more) block.mlp = addSite(block.mlp, seen.input, seen.experts ? undefined : seen.inner, shape)
      for (const { expert, rows, input, inner } of seen.experts ?? []) {
        block.experts ??= []
        if (input) block.experts[expert] = addSite(block.experts[expert], input, inner, { batch: 1, tokens: rows.length })
      }
    },
  })
  const found = blocks.map(
    ({ attention, mlp, experts }): BlockImportances => ({
      ...(attention ? { attention: meansOf(attention) } : {}),
      ...(mlp ? { mlp: meansOf(mlp) } : {}),
      ...(experts ? { experts: Array.from(experts, (site) => (site ? meansOf(site) : { input: new Float32Array() })) } : {}),
    }),
  )
  return { blocks: found, texts, tokens }
}

interface Site {
  readonly input: Float64Array
  readonly inner: Float64Array | undefined
  tokens: number
}

interface Sites {
  attention?: Site
  mlp?: Site
  /** By the expert's number. An expert that was never chosen has no entry. */
  experts?: (Site | undefined)[]
}

function addSite(
  site: Site | undefined,
  input: Tensor2D,
  inner: Tensor2D | undefined,
  { batch, tokens }: { batch: number; tokens: number },
): Site {
  const own = site ?? { input: new Float64Array(input.shape[1]), inner: inner && new Float64Array(inner.shape[1]), tokens: 0 }
  addRows(own.input, columnSums(input, batch, tokens, 'squares'))
  if (inner && own.inner) addRows(own.inner, columnSums(inner, batch, tokens, 'squares'))
  own.tokens += batch * tokens
  return own
}

function meansOf({ input, inner, tokens }: Site): PartImportances {
  const mean = (sums: Float64Array) => Float32Array.from(sums, (sum) => sum / tokens)
  return { input: mean(input), ...(inner ? { inner: mean(inner) } : {}) }
}

function addRows(sums: Float64Array, rows: ArrayLike<number>): void {
  for (let i = 0; i < rows.length; i++) sums[i % sums.length] = (sums[i % sums.length] as number) + (rows[i] as number)
}

/** Writes the importances of a file's tensors in the form that llama-quantize reads (`--imatrix`). */
export async function writeImatrix(path: string, { weighed, tensors: written }: GgufFile, { texts, tokens }: Importances): Promise<void> {
  const metadata: MetadataEntries = new Map([
    ['general.type', { kind: 'text', value: 'imatrix' }],
    ['imatrix.datasets', { kind: 'texts', value: texts }],
    ['imatrix.chunk_count', { kind: 'integer', value: 1 }],
    ['imatrix.chunk_size', { kind: 'integer', value: tokens }],
  ])
  const type = blockTypeNamed('F32')
  const matrix = (name: string, rows: number, values: Float32Array) => ({
    name,
    type,
    shape: [rows, values.length / rows],
    bytes: async () => new Uint8Array(values.buffer),
  })
  const tensors = written.flatMap(({ name, shape }) => {
    const values = weighed.get(name)
    if (!values) return []
    const experts = shape.length > 2 ? at(shape, 0) : 1
    const sums = values.map((value) => value * tokens)
    return [matrix(`${name}.in_sum2`, experts, sums), matrix(`${name}.counts`, experts, new Float32Array(experts).fill(tokens))]
  })
  await writeGguf(path, metadata, tensors)
}
