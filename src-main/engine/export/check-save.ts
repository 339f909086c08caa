import type { FormatOutline } from '#contract/exports.ts'
import type { Plan } from '#contract/plan.ts'
import type { Amount } from '#contract/run-request.ts'
import { denseMethod } from '#contract/titles.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openSpec } from '#engine/model/model.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { Method } from '#engine/pruning/method.ts'
import { parseOptions } from '#engine/pruning/options.ts'
import { outlineOf } from '#engine/pruning/outline.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { likelyPlan } from './likely-plan.ts'
import { outlineFormats } from './save.ts'

/** What is to be saved: the plan that a run has, or what will make one. */
export interface SaveCheck {
  readonly model: string
  readonly plan: Plan | null
  readonly method: string
  readonly amount?: Amount | undefined
  readonly options?: Readonly<Record<string, unknown>> | undefined
  readonly formats: readonly string[]
  readonly ggufTypes: readonly string[]
}

/** What each of the formats will weigh, or why it cannot hold the model; nothing is read but headers. Throws for unknown formats. */
export async function checkSave(check: SaveCheck): Promise<FormatOutline[]> {
  const { checkpoint, spec } = await openSpec(check.model)
  try {
    const planned = { model: { checkpoint, spec }, plan: check.plan ?? expectedPlan(spec, check) }
    return await outlineFormats(planned, check.formats, check.ggufTypes)
  } finally {
    await checkpoint.close()
  }
}

/** A plan of the kind that a method with these options will make. */
export function expectedPlan(
  spec: DecoderSpec,
  { method: id, amount, options = {} }: Pick<SaveCheck, 'method' | 'amount' | 'options'>,
): Plan {
  if (id === denseMethod) return densePlan(spec)
  const method: Method = findMethod(id)
  const none = { attentionRemoved: 1, blocksRemoved: 1, neuronsRemovedPerBlock: 1 }
  const removal = amount ? outlineOf(method, spec, budgetFor(spec, amount), parseOptions(method.options, options, method.title)) : none
  return likelyPlan(spec, method.unit, removal)
}
