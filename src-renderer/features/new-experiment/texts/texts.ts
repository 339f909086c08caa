import type { DataRequest } from '#contract/data/data-request.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import { isOfSample } from '#contract/models/sample.ts'
import { defaultRepairData } from '#contract/pruning/default-repair.ts'
import type { DatasetEntry } from '#contract/pruning/methods.ts'
import type { Draft } from '../grid.ts'

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

/** Adapts a draft's texts to other models. Unchanged defaults become the defaults of these models, and `withheld` sources are dropped. */
export function suitTexts(draft: Draft, before: Draft, after: Draft, withheld: readonly string[]): Texts {
  const isWithheld = ({ source, mix = [] }: DataRequest) => [{ source }, ...mix].some((part) => withheld.includes(part.source))
  const kept = (text: DataRequest | null) => (text && isWithheld(text) ? null : text)
  const { calibration, evaluation } = draft
  const perplexity = draft.perplexity.filter(({ data }) => !isWithheld(data))
  const allWithheld = draft.perplexity.length > 0 && perplexity.length === 0
  const usualLength = evaluation.sequenceLength === before.evaluation.sequenceLength
  const isUsual = isSame(calibration, before.calibration) || (calibration && isWithheld(calibration))
  const suited = isUsual ? after.calibration : calibration
  return {
    calibration: suited,
    repairData: kept(repairTextAfter(draft, suited)),
    recoveryData: kept(draft.recoveryData),
    perplexity: isSame(sourcesOf(draft), sourcesOf(before)) || allWithheld ? after.perplexity : perplexity,
    evaluation: { ...evaluation, sequenceLength: usualLength ? after.evaluation.sequenceLength : evaluation.sequenceLength },
  }
}

/** The repair text after a change of the calibration text. If it followed the old text, it follows the new one, with the same windows. */
export function repairTextAfter(
  { repairData, calibration: old }: Pick<Draft, 'repairData' | 'calibration'>,
  calibration: DataRequest | null,
) {
  if (!repairData || !old || repairData.source !== defaultRepairData(old).source) return repairData
  return calibration && { ...defaultRepairData(calibration), ...(repairData.windows ? { windows: repairData.windows } : {}) }
}

const sourcesOf = ({ perplexity }: Draft): string[] => perplexity.map(({ data }) => data.source)
const isSame = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other)

/** Says in a sentence what it means that this text decides. */
export function meaningOf(text: DataRequest | null, datasets: readonly DatasetEntry[]): string {
  if (text === null) return 'Only methods that need no text can run.'
  const { ofSample, summary } = datasets.find(({ source }) => source === text.source) ?? { ofSample: false, summary: '' }
  if (ofSample) return summary
  if (text.source === 'mixed') return `${summary} A text like what your model will read keeps more of that.`
  return 'What this text needs is kept best, and what it never shows is forgotten first.'
}
