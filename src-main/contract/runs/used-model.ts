/** The model that a run used: its id, and its fingerprint then, which is null before the run starts and in runs of earlier versions. */
interface UsedModel {
  readonly model: string
  readonly fingerprint: string | null
}

/** Whether one run can be the other's baseline: both used exactly the same model. */
export const usedSameModel = (one: UsedModel, other: UsedModel): boolean =>
  one.model === other.model && one.fingerprint === other.fingerprint

/** Returns the model that a row of the history used. */
export const usedModelOf = (run: { model: { id: string }; fingerprint: string | null }): UsedModel => ({
  model: run.model.id,
  fingerprint: run.fingerprint,
})
