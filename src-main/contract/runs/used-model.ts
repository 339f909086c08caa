/** The model that a run used: which one of the library, and what it held then; null in runs of earlier versions, which do not say. */
interface UsedModel {
  readonly model: string
  readonly fingerprint: string | null
}

/** Whether one run can be the baseline of the other: both used the very same model. */
export const usedSameModel = (one: UsedModel, other: UsedModel): boolean =>
  one.model === other.model && one.fingerprint === other.fingerprint

/** Whether a difference of numbers of two runs means anything: not where the files of one model were replaced in between. */
export const areComparable = (one: UsedModel, other: UsedModel): boolean =>
  one.model !== other.model || one.fingerprint === other.fingerprint

/** What a row of the history says of it. */
export const usedModelOf = (run: { model: { id: string }; fingerprint: string | null }): UsedModel => ({
  model: run.model.id,
  fingerprint: run.fingerprint,
})
