import { basename } from 'node:path'
import type { MixedTypes } from '#contract/pruning/mixed-types.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { fileSizeText } from '#contract/runs/amount-text.ts'
import { mixedBytes, type WeightType } from '#contract/titles.ts'
import type { ReadData } from '#engine/data/read-data.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import {
  fromTensors,
  type Importances,
  measureImportances,
  toTensors,
  weighingPhase,
  weighingText,
} from '#engine/export/gguf/importances.ts'
import { findMix, weighsErrors } from '#engine/export/gguf/mix.ts'
import { mixedWindows, mixTypes, requireGradients, requireMixedTypes, shareWorthRemoving } from '#engine/export/mixed-types/mixed-types.ts'
import { openTrimmed } from '#engine/model/kept-model.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { MethodInput, MethodResult } from '#engine/pruning/method.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { RunPlace } from './run-place.ts'

/** The most bytes of the request's file, and the bytes of a plan's. */
function sizesIn({ model, request: { weights, method } }: RunPlace) {
  const type = weights as WeightType
  return { bytes: mixedBytes(type) as number, bytesOf: (plan: Plan) => gguf.fileBytes({ model, plan, method }, type) }
}

/** Calls `use` with what types of a result's matrices are chosen by. Its windows are the first of `text`. */
async function withMixRequest<T>(
  place: RunPlace,
  { plan, tensors }: MethodResult,
  text: ReadData,
  use: (request: Parameters<typeof mixTypes>[0]) => Promise<T>,
): Promise<T> {
  const { model, request, steps } = place
  const importances = await importancesOf(place, { plan, tensors }, text)
  const trimmed = await openTrimmed(model, plan, place.tokenizer)
  const own = text.windows.slice(0, mixedWindows)
  const windows = trimmed ? own.map((window) => trimmed.reread(window)) : own
  const view = viewWithPlan(model, plan, tensors)
  const run = steps.methodRun(request.seed)
  try {
    return await steps.time('choosing types', () =>
      use({ planned: { model, plan, tensors }, view, windows, importances, ...sizesIn(place), run }),
    )
  } finally {
    view.dispose()
  }
}

/** Chooses the types of the result's matrices, if the request asks for mixed types. */
export async function mixWeights(
  place: RunPlace,
  result: MethodResult,
  text: ReadData | undefined,
): Promise<{ result: MethodResult; mixed?: MixedTypes }> {
  if (text === undefined || mixedBytes(place.request.weights ?? '') === undefined) return { result }
  const { bytes, bytesOf } = sizesIn(place)
  await requireMixedTypes(place.model, [result.plan], bytes, bytesOf)
  const { plan, mixed } = await withMixRequest(place, result, text, mixTypes)
  place.note(
    `The types of ${mixed.tensors.length} matrices were chosen for a file of at most ${fileSizeText(mixed.bytes)}. Their errors are estimated to cost ${mixed.divergence.toFixed(4)} nats per token.`,
  )
  return { result: { ...result, plan }, mixed }
}

/** The values that types of few bits store together, and those that all quantised types do. Other widths would rule types out. */
const [fewBits, allTypes] = [256, 32]

/**
 * Divides the bytes of a file between parts and bits: removes, by gates, as many parameters as cost less than the bits that their bytes buy
 * for the rest. The types are chosen later, for what is left after repair and recovery.
 */
export async function planMixed(
  place: RunPlace,
  input: Omit<MethodInput<Record<string, unknown>>, 'budget'>,
): Promise<{ result: MethodResult; sparsity: number }> {
  const { model, request } = place
  requireGradients(model.spec)
  const text = await readWeighingText(place, request.weights as WeightType)
  const dense: MethodResult = { plan: densePlan(model.spec), decisions: [], notes: [] }
  const sparsity = await withMixRequest(place, dense, text as ReadData, shareWorthRemoving)
  const note =
    sparsity > 0
      ? `${(100 * sparsity).toFixed(1)} % of the block stack cost less than the bits that their bytes buy for the rest.`
      : 'No part costs less than the bits that its bytes buy for the rest, so nothing was removed.'
  if (sparsity === 0) return { result: { ...dense, notes: [note] }, sparsity }
  const unit = model.spec.blocks.every(({ width }) => width % fewBits === 0) ? fewBits : allTypes
  const options = { ...input.options, unit }
  const result = await findMethod(request.method).plan({ ...input, options, budget: budgetFor(model.spec, { sparsity }) })
  return { result: { ...result, notes: [note, ...result.notes] }, sparsity }
}

/** Reads the text that importances are measured on, if the weight type uses importances. */
export async function readWeighingText(place: RunPlace, type: WeightType): Promise<ReadData | undefined> {
  if (!weighsErrors(findMix(type))) return undefined
  const { model, request } = place
  return place.read(weighingText(request.calibration, model.spec.contextLength), request.seed)
}

export const namesOf = ({ used }: ReadData): string[] => (used.parts ?? [used]).map(({ source }) => basename(source))

/** The importances of one plan are the same for every weight type, and whatever types were chosen. */
const importancesStep: StepKind = { version: 2 }

export async function importancesOf(place: RunPlace, result: Pick<MethodResult, 'plan' | 'tensors'>, text: ReadData): Promise<Importances> {
  const { types: _types, ...plan } = result.plan
  const asked = { kind: importancesStep, label: 'importances', on: { plan, windows: text.windows } }
  const { tokens, tensors } = await place.steps.tensorStep(asked, async () => {
    const measured = await place.steps.time(weighingPhase, () => weigh(place, result, text))
    return { tokens: measured.tokens, tensors: toTensors(measured) }
  })
  return {
    tokens,
    texts: namesOf(text),
    begins: text.used.beginToken ?? false,
    blocks: fromTensors(tensors, place.model.spec.blocks.length),
  }
}

async function weigh({ model, steps }: RunPlace, { plan, tensors }: Pick<MethodResult, 'plan' | 'tensors'>, text: ReadData) {
  // The text has the ids of the whole vocabulary. Which rows of it are kept changes nothing in the blocks.
  const { vocabulary: _, ...blocks } = plan
  const view = viewWithPlan(model, blocks, tensors)
  const progress = (done: number, total: number) => steps.progress('Weighing columns', done, total, 'parts')
  try {
    return await measureImportances(view, text.windows, namesOf(text), { signal: steps.host.signal, progress })
  } finally {
    view.dispose()
  }
}
