import type { Plot } from '#contract/comparison/plot.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { EspalierError } from '#contract/errors.ts'
import type { StudyDocument } from '#contract/runs/run.ts'
import type { MeasureRequest, RunRequest } from '#contract/runs/run-request.ts'
import { version } from '#contract/version.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { unpackedNotes } from '#engine/checkpoint/checkpoint.ts'
import { denseView } from '#engine/model/views/view.ts'
import type { AblationInput } from '#engine/pruning/ablations/ablation.ts'
import { findAblation } from '#engine/pruning/ablations/index.ts'
import { parseOptions } from '#engine/pruning/method.ts'
import { usedBeginOf } from './run/run.ts'
import { openPlace, type RunPlace } from './run/run-place.ts'
import type { RunHost } from './run/run-steps.ts'

type PerplexityRequest = Extract<MeasureRequest, { kind: 'perplexity' }>

/**
 * Runs the ablation that a request names as its method. Its trials are compared by the first perplexity in the request. Steps that the host
 * has stored are not computed again.
 */
export async function executeStudy(request: RunRequest, host: RunHost): Promise<StudyDocument> {
  const { method, seed, calibration } = request
  const ablation = findAblation(method)
  const options = parseOptions(ablation, request.options)
  const judged = request.measures.find(({ kind }) => kind === 'perplexity')
  if (!calibration || judged?.kind !== 'perplexity')
    throw new EspalierError('usage', `${ablation.title} needs calibration data, and a text to measure perplexity on.`)
  const backend = await openBackend(request.backend)
  const { place, fingerprint } = await openPlace(request, host, backend.name)
  const { model, steps, precision } = place
  const { input, drawn, measured } = await readTexts(place, calibration, judged)
  const own = { ...input, view: denseView(model), options, run: steps.methodRun(seed) }
  const { table, plot, notes } = await steps.time('study', () => ablation.study(own))
  for (const text of [...unpackedNotes(model.checkpoint), ...notes]) place.note(text)
  await steps.requireSameModel()
  return {
    model: model.name,
    fingerprint,
    method,
    options,
    seed,
    ...(await usedBeginOf(place)),
    // The calibration windows of the first trial.
    ...(drawn[0] ? { calibration: drawn[0] } : {}),
    evaluation: [measured],
    study: { table, plot: withoutEndless(plot) },
    notes: place.notes,
    seconds: { ...steps.allSeconds(), study: (steps.seconds.study ?? 0) + steps.foundSeconds },
    backend: backend.name,
    precision,
    version,
  }
}

/** Reads the texts of a study. Calibration windows are read when a trial asks for them, and recorded in `drawn`. */
async function readTexts(place: RunPlace, calibration: DataRequest, judged: PerplexityRequest) {
  const drawn: UsedData[] = []
  const { windows, used } = await place.read(judged.data, 0)
  const input: Pick<AblationInput<unknown>, 'evaluation' | 'calibration'> = {
    evaluation: { name: judged.name, windows },
    async calibration(count, order) {
      const found = await place.read({ ...calibration, windows: Math.min(count, calibration.windows ?? count) }, order)
      drawn.push(found.used)
      return found.windows
    },
  }
  return { input, drawn, measured: used }
}

/** Removes infinite points, which JSON cannot hold. A ruined model stays in the table but is missing from the plot. */
function withoutEndless(plot: Plot): Plot {
  const finite = ({ x, y }: { x: number; y: number }) => Number.isFinite(x) && Number.isFinite(y)
  return { ...plot, series: plot.series.map((series) => ({ ...series, points: series.points.filter(finite) })) }
}
