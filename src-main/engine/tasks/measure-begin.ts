import type { BeginFigures } from '#contract/data/begin-token.ts'
import type { MeasuringProgress } from '#contract/models/models.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { beginRequest, decideBegin, measureBegin } from '#engine/evaluation/begin-token.ts'
import { acquireModel, openModelTokenizer, releaseModel } from '#engine/model/kept-model.ts'
import { withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'
import type { StepStore } from '#engine/steps/step-name.ts'
import { RunSteps } from './run/run-steps.ts'

interface Host {
  readonly signal: AbortSignal
  readonly steps: StepStore
  emit(event: unknown): void
}

/**
 * Measures the perplexity of a model without and with its begin token, in the step of a run with `auto`, so that either finds what the other
 * measured. Null if the model has none.
 */
export async function measureModelBegin(path: string, memoryBytes: number | undefined, host: Host): Promise<BeginFigures | null> {
  const { name: backend } = await openBackend('auto')
  const model = withProducts(await acquireModel(path, memoryBytes), productsFor('float32'))
  try {
    const tell = (progress: MeasuringProgress) => host.emit(progress)
    // The only phase of these steps is reading the model, where it was not read before.
    const emit = (event: RunEvent) => {
      if (event.type === 'progress') tell({ doneBytes: event.progress.done, totalBytes: event.progress.total })
    }
    const steps = new RunSteps({ ...host, emit })
    await steps.identify(model, { backend, precision: 'float32' })
    const report = { signal: host.signal, progress: (done: number, total: number) => tell({ turns: { done, total } }) }
    const asked = { spec: model.spec, tokenizer: await openModelTokenizer(model) }
    const begin = await decideBegin('auto', asked, (windows, id) =>
      steps.step(beginRequest(windows, id), () => measureBegin(denseView(model), windows, id, report)),
    )
    return begin.used.figures ?? null
  } finally {
    await releaseModel()
  }
}
