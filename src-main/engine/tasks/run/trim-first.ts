import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { denseMethod, isAblation, isInspection } from '#contract/titles.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openTrimmed } from '#engine/model/kept-model.ts'
import type { Model } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { parseOptions } from '#engine/pruning/method.ts'
import { rowsOf, vocabulary } from '#engine/pruning/methods/vocabulary.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { type Tokenizer, withoutTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { RunPlace } from './run-place.ts'

/** Throws if rows of the vocabulary cannot be removed before the method of a request. */
export function requireTrimmable(
  { method, vocabulary: kept }: Pick<RunRequest, 'method' | 'vocabulary'>,
  { spec, tokenizer }: { readonly spec: DecoderSpec; readonly tokenizer: Tokenizer | undefined },
): void {
  if (!kept) return
  if (method === denseMethod || method === vocabulary.id || isAblation(method) || isInspection(method))
    throw new EspalierError(
      'usage',
      'Rows of the vocabulary are removed first only before a pruning method. Choose one, or the method Vocabulary by itself.',
    )
  const { title, unit } = findMethod(method)
  if (unit === 'width')
    throw new EspalierError(
      'infeasible',
      `${title} rotates the embedding, so rows of the vocabulary cannot be removed before it. Choose another method.`,
    )
  if (!tokenizer) throw new EspalierError('infeasible', withoutTokenizer('lose rows of its vocabulary'))
  rowsOf(spec, kept)
}

/**
 * Removes rows of the vocabulary, if the request asks for that before its method. Returns a place with the trimmed model and tokenizer: text
 * is read in the kept tokens, and the dense distribution is one over them. Every seed keeps the same tokens.
 */
export async function trimFirst(whole: RunPlace): Promise<RunPlace> {
  const { model, steps, request } = whole
  const { vocabulary: kept, calibration } = request
  requireTrimmable(request, { spec: model.spec, tokenizer: whole.tokenizer })
  if (!kept || !calibration || !whole.tokenizer) return whole
  const options = parseOptions(vocabulary, kept)
  const counted = await whole.count(calibration, whole.tokenizer)
  const budget = budgetFor(model.spec, { sparsity: 0 })
  const input = { view: denseView(model), calibration: [], counted, budget, options, run: steps.methodRun(request.seed) }
  const { plan, notes, ranking } = await steps.time('vocabulary', () => findMethod(vocabulary.id).plan(input))
  for (const text of notes) whole.note(text)
  const tokens = await openTrimmed(model, plan, whole.tokenizer)
  if (!tokens) return whole
  await whole.begin()
  steps.keepRows(tokens.kept)
  const parts = { request, model: withRows(model, tokens.kept), tokenizer: tokens.tokenizer, precision: whole.precision, steps }
  return new RunPlace({ ...parts, trimmed: { whole, tokens, ranking } })
}

/** The open model with only some rows of its vocabulary, which it owns. */
export const withRows = (model: Model, kept: readonly number[]): Model => ({
  ...model,
  spec: { ...model.spec, vocabulary: kept.length },
  vocabulary: model.vocabulary.keeping(kept),
  kept: new Map(),
})

/** The plan of a place as one for the whole model. */
export const planOfWhole = ({ trimmed }: Pick<RunPlace, 'trimmed'>, plan: Plan): Plan =>
  trimmed ? { ...plan, vocabulary: { kept: [...trimmed.tokens.kept] } } : plan

/** Frees what a trimmed model has of its own. The steps that follow are those of the whole model. */
export function closeTrimmed({ trimmed, model, steps }: RunPlace): void {
  if (!trimmed) return
  steps.keepRows(undefined)
  for (const kept of model.kept.values()) kept.dispose()
  model.vocabulary.dispose()
}
