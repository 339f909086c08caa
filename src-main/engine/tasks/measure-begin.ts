import type { BeginFigures } from '#contract/data/begin-token.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { decideBegin, measureBegin } from '#engine/evaluation/begin-token.ts'
import { acquireModel, openModelTokenizer, releaseModel } from '#engine/model/kept-model.ts'
import { withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'

interface Host {
  readonly signal: AbortSignal
  emit(event: unknown): void
}

/** Measures the perplexity of a model without and with its begin token, as `auto` does in a run. Null if it has none. */
export async function measureModelBegin(path: string, memoryBytes: number | undefined, host: Host): Promise<BeginFigures | null> {
  await openBackend('auto')
  const model = await acquireModel(path, memoryBytes)
  try {
    const view = denseView(withProducts(model, productsFor('float32')))
    const report = { signal: host.signal, progress: (done: number, total: number) => host.emit({ done, total }) }
    const asked = { spec: model.spec, tokenizer: await openModelTokenizer(model) }
    return (await decideBegin('auto', asked, (windows, id) => measureBegin(view, windows, id, report))).used.figures ?? null
  } finally {
    await releaseModel()
  }
}
