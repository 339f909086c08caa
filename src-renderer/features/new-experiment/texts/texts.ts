import type { DataRequest } from '#contract/data/data-request.ts'
import { isOfSample, type ModelEntry } from '#contract/models/models.ts'
import type { DatasetEntry } from '#contract/pruning/methods.ts'
import { type Draft, repairTextAfter } from '../grid.ts'

type Texts = Pick<Draft, 'calibration' | 'repairData' | 'recoveryData' | 'perplexity' | 'evaluation'>

/** The texts that all chosen models may use. The sample's texts are offered only if each model is the sample or was pruned from it. */
export function offeredTexts(datasets: readonly DatasetEntry[], chosen: readonly string[], models: readonly ModelEntry[]): DatasetEntry[] {
  const allOfSample = chosen.every((id) => isOfSample(id, models))
  return datasets.filter(({ ofSample }) => allOfSample || !ofSample)
}

/** The model whose default texts a draft gets: the first that was not made from the sample, if there is one. */
export function decidingModel(chosen: readonly string[], models: readonly ModelEntry[]): string | undefined {
  return chosen.find((id) => !isOfSample(id, models)) ?? chosen[0]
}

/**
 * Adapts a draft's texts to other models. Unchanged defaults become the defaults of these models, and `withheld` sources are dropped. The
 * fields that the user set (`own`, as `changedFields` names them) stay.
 */
export function suitTexts(
  draft: Draft,
  before: Draft,
  after: Draft,
  withheld: readonly string[],
  own: ReadonlySet<string> = new Set(),
): Texts {
  const isWithheld = ({ source, mix = [] }: DataRequest) => [{ source }, ...mix].some((part) => withheld.includes(part.source))
  const kept = (text: DataRequest | null) => (text && isWithheld(text) ? null : text)
  const { calibration, evaluation } = draft
  const perplexity = draft.perplexity.filter(({ data }) => !isWithheld(data))
  const allWithheld = draft.perplexity.length > 0 && perplexity.length === 0
  const usualLength = evaluation.sequenceLength === before.evaluation.sequenceLength && !own.has('evaluation.sequenceLength')
  const isUsual = calibration?.source === before.calibration?.source && !own.has('calibration') && !own.has('calibration.source')
  const replaces = isUsual || (calibration && isWithheld(calibration))
  const suited = replaces ? keepAmounts(after.calibration, calibration, own) : calibration
  return {
    calibration: suited,
    repairData: kept(repairTextAfter(draft, suited)),
    recoveryData: kept(draft.recoveryData),
    perplexity: (isSame(sourcesOf(draft), sourcesOf(before)) && !own.has('perplexity')) || allWithheld ? after.perplexity : perplexity,
    evaluation: { ...evaluation, sequenceLength: usualLength ? after.evaluation.sequenceLength : evaluation.sequenceLength },
  }
}

/** Gives a text the length and number of windows that the user set for the text that it replaces. */
function keepAmounts(text: DataRequest | null, old: DataRequest | null, own: ReadonlySet<string>): DataRequest | null {
  if (!text || !old) return text
  const { sequenceLength, windows } = old
  return {
    ...text,
    ...(own.has('calibration.sequenceLength') ? { sequenceLength } : {}),
    ...(own.has('calibration.windows') ? { windows } : {}),
  }
}

const sourcesOf = ({ perplexity }: Draft): string[] => perplexity.map(({ data }) => data.source)
const isSame = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other)

/** Says in a sentence what it means that this text decides. */
export function meaningOf(text: DataRequest | null, datasets: readonly DatasetEntry[]): string {
  if (text === null) return 'Only methods that need no text can run.'
  const { ofSample, summary } = datasets.find(({ source }) => source === text.source) ?? { ofSample: false, summary: '' }
  if (ofSample) return summary
  if (text.split) return 'What your text needs is kept best. A fifth of its documents is kept apart to decide: no choice reads it.'
  if (text.source === 'mixed') return `${summary} A text like what your model will read keeps more of that.`
  return 'What this text needs is kept best, and what it never shows is forgotten first.'
}
