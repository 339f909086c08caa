import { type ModelEntry, mostMeasuredParameters } from '#contract/models/models.ts'
import { call } from '../../api/api.ts'
import { attempt } from '../../lib/notices.svelte.ts'

/** Measures the begin token of a model that was just added, unless that would take minutes. The result arrives with the model. */
export function measureIfSmall({ id, description, beginFigures }: ModelEntry): void {
  const { begins, parameters } = description
  if (!begins?.token || beginFigures || parameters.total > mostMeasuredParameters) return
  void attempt(() => call('models.measureBegin', { id }))
}
