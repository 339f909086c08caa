import { EspalierError } from '#contract/errors.ts'
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
import { findMix } from './gguf/mix.ts'
import { findFormat, formats } from './index.ts'
import { likelyPlan } from './likely-plan.ts'
import type { Planned } from './pruned-tensors.ts'

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

/**
 * What every format would make of a planned model, or why it cannot hold it. Reads no weights. Throws `usage` for formats or types that
 * there are none of.
 */
export async function outlineFormats(planned: Planned, ids: readonly string[], ggufTypes: readonly string[]): Promise<FormatOutline[]> {
  if (ids.length === 0) throw new EspalierError('usage', `No format was named. Known are: ${Object.keys(formats).join(', ')}.`)
  for (const type of ggufTypes) findMix(type)
  const outlines: FormatOutline[] = []
  for (const format of ids) {
    // Each type by itself: one may hold the model where another cannot.
    for (const type of format === 'gguf' ? ggufTypes : [null]) outlines.push(await outlineOne(planned, format, type))
  }
  return outlines
}

async function outlineOne(planned: Planned, format: string, type: string | null): Promise<FormatOutline> {
  try {
    const [outline] = await findFormat(format).outline(planned, type === null ? [] : [type])
    if (!outline) throw new RangeError(`${format} outlined nothing`)
    return { ...outline, notes: [...outline.notes], format, problem: null }
  } catch (error) {
    if (!(error instanceof EspalierError) || error.code !== 'infeasible') throw error
    return { format, type, bytes: null, keyValueBytes: null, notes: [], problem: error.message }
  }
}

/** What the formats would write. Throws for the first that cannot hold the model, and for formats or types that there are none of. */
export async function requireFormats(planned: Planned, ids: readonly string[], ggufTypes: readonly string[]): Promise<FormatOutline[]> {
  const outlines = await outlineFormats(planned, ids, ggufTypes)
  for (const { problem } of outlines) if (problem !== null) throw new EspalierError('infeasible', problem)
  return outlines
}
