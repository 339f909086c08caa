import { blockTypeNamed } from '#engine/checkpoint/gguf/blocks.ts'
import { type MetadataEntries, writeGguf } from '#engine/checkpoint/gguf/write-gguf.ts'
import type { Windows } from '#engine/data/windows.ts'
import { runWindows } from '#engine/model/forward.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf, isAttention } from '#engine/model/weights/weights.ts'
import { columnSums } from '#engine/tensor/column-sums.ts'
import type { GgufFile } from './gguf-file.ts'
import type { BlockImportances, Importances } from './importances.ts'

interface Report {
  readonly signal?: AbortSignal
  progress?(done: number, total: number): void
}

/** The mean square of every column that a projection of the pruned model reads, over the windows, as llama-imatrix measures it. */
export async function measureImportances(
  view: ModelView,
  windows: Windows,
  texts: readonly string[],
  report: Report = {},
): Promise<Importances> {
  const tokens = windows.reduce((sum, { length }) => sum + length, 0)
  const blocks: { attention?: Site; mlp?: Site }[] = view.spec.blocks.map(() => ({}))
  await runWindows(view, windows, {
    ...report,
    endsBeforeOutput: true,
    observe({ batch, tokens: length }, part, { input, inner }) {
      const kind = isAttention(part) ? 'attention' : 'mlp'
      const block = blocks[blockOf(part)] ?? {}
      const site = block[kind] ?? { input: new Float64Array(input.shape[1]), inner: new Float64Array(inner.shape[1]) }
      block[kind] = site
      addRows(site.input, columnSums(input, batch, length, 'squares'))
      addRows(site.inner, columnSums(inner, batch, length, 'squares'))
    },
  })
  const mean = (sums: Float64Array) => Float32Array.from(sums, (sum) => sum / tokens)
  const means = (site: Site) => ({ input: mean(site.input), inner: mean(site.inner) })
  const found = blocks.map(
    ({ attention, mlp }): BlockImportances => ({
      ...(attention ? { attention: means(attention) } : {}),
      ...(mlp ? { mlp: means(mlp) } : {}),
    }),
  )
  return { blocks: found, texts, tokens }
}

interface Site {
  readonly input: Float64Array
  readonly inner: Float64Array
}

function addRows(sums: Float64Array, rows: ArrayLike<number>): void {
  for (let i = 0; i < rows.length; i++) sums[i % sums.length] = (sums[i % sums.length] as number) + (rows[i] as number)
}

/** Writes the importances of a file's tensors as llama-quantize reads them (`--imatrix`). */
export async function writeImatrix(path: string, { weighed }: GgufFile, { texts, tokens }: Importances): Promise<void> {
  const metadata: MetadataEntries = new Map([
    ['general.type', { kind: 'text', value: 'imatrix' }],
    ['imatrix.datasets', { kind: 'texts', value: texts }],
    ['imatrix.chunk_count', { kind: 'integer', value: 1 }],
    ['imatrix.chunk_size', { kind: 'integer', value: tokens }],
  ])
  const type = blockTypeNamed('F32')
  const vector = (name: string, values: Float32Array) => ({
    name,
    type,
    shape: [1, values.length],
    bytes: async () => new Uint8Array(values.buffer),
  })
  const tensors = [...weighed].flatMap(([name, values]) => [
    vector(
      `${name}.in_sum2`,
      values.map((value) => value * tokens),
    ),
    vector(`${name}.counts`, Float32Array.of(tokens)),
  ])
  await writeGguf(path, metadata, tensors)
}
