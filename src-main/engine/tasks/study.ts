import type { Plot } from '#contract/comparison/plot.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import type { StudyDocument } from '#contract/runs/run.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { version } from '#contract/version.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { unpackedNotes } from '#engine/checkpoint/checkpoint.ts'
import { readData } from '#engine/data/read-data.ts'
import { acquireModel, openModelTokenizer } from '#engine/model/kept-model.ts'
import { withProducts } from '#engine/model/model.ts'
import { productsFor, resolvePrecision } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'
import { findAblation } from '#engine/pruning/ablations/index.ts'
import { parseOptions } from '#engine/pruning/options.ts'
import { retiredIn } from './retired.ts'
import { type RunHost, RunSteps } from './run-steps.ts'

/**
 * Runs the ablation that a request names as its method. Its trials are judged by the first perplexity that the request asks for; finished
 * steps are taken from the host.
 */
export async function executeStudy(request: RunRequest, host: RunHost): Promise<StudyDocument> {
  const { method, seed, calibration, localFolder } = request
  const ablation = findAblation(method)
  const options = parseOptions(ablation, request.options)
  const judged = request.measures.find(({ kind }) => kind === 'perplexity')
  if (!calibration || judged?.kind !== 'perplexity')
    throw new EspalierError('usage', `${ablation.title} needs calibration data, and a text to take the perplexity on.`)
  const backend = await openBackend(request.backend)
  const precision = resolvePrecision(request.precision ?? 'float32')
  const model = withProducts(await acquireModel(request.model, request.memoryBytes), productsFor(precision))
  const steps = new RunSteps(host)
  const fingerprint = await steps.identify(model, { backend: backend.name, precision })
  host.emit({ type: 'model', fingerprint })
  const tokenizer = await openModelTokenizer(model)
  const read = (data: DataRequest, order: number) => readData(model, tokenizer, data, order, { localFolder, fetchFile: host.fetchFile })
  const drawn = new Map<string, UsedData>()
  const measured = await read(judged.data, 0)
  const { table, plot, notes } = await steps.time('study', () =>
    ablation.study({
      view: denseView(model),
      options,
      evaluation: { name: judged.name, windows: measured.windows },
      async calibration(count, order) {
        const { windows, used } = await read({ ...calibration, windows: Math.min(count, calibration.windows ?? count) }, order)
        drawn.set(used.hash, used)
        return windows
      },
      run: steps.methodRun(seed),
    }),
  )
  const remarks = [...retiredIn(request), ...unpackedNotes(model.checkpoint), ...notes]
  for (const text of remarks) host.emit({ type: 'note', text })
  await steps.requireSameModel()
  return {
    model: model.name,
    fingerprint,
    method,
    options,
    seed,
    ...firstOf(drawn),
    evaluation: [measured.used],
    study: { table, plot: withoutEndless(plot) },
    notes: remarks,
    seconds: { ...steps.allSeconds(), study: (steps.seconds.study ?? 0) + steps.foundSeconds },
    backend: backend.name,
    precision,
    version,
  }
}

/** The calibration windows that the document states: those of the first trial. */
function firstOf(drawn: ReadonlyMap<string, UsedData>): { calibration?: UsedData } {
  const [first] = drawn.values()
  return first ? { calibration: first } : {}
}

/** JSON has no infinity: a model that was ruined keeps its row, and has no point. */
function withoutEndless(plot: Plot): Plot {
  const finite = ({ x, y }: { x: number; y: number }) => Number.isFinite(x) && Number.isFinite(y)
  return { ...plot, series: plot.series.map((series) => ({ ...series, points: series.points.filter(finite) })) }
}
