/** The model that a run used: its library entry and its content then; null in runs of earlier versions, which did not record it. */
interface UsedModel {
  readonly model: string
  readonly fingerprint: string | null
}

/** Whether one run can be the other's baseline: both used exactly the same model. */
export const usedSameModel = (one: UsedModel, other: UsedModel): boolean =>
  one.model === other.model && one.fingerprint === other.fingerprint

/** Whether two runs' numbers are comparable. They are not if the model's files were replaced in between. */
export const areComparable = (one: UsedModel, other: UsedModel): boolean =>
  one.model !== other.model || one.fingerprint === other.fingerprint

/** The used model of a history row. */
export const usedModelOf = (run: { model: { id: string }; fingerprint: string | null }): UsedModel => ({
  model: run.model.id,
  fingerprint: run.fingerprint,
})
