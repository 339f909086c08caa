import { EspalierError } from '#contract/errors.ts'
import type { FormatOutline } from '#contract/exports/exports.ts'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import { isPlain } from '#contract/runs/amount-text.ts'
import type { Amount, RunRequest } from '#contract/runs/run-request.ts'
import { denseMethod } from '#contract/titles.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import { openSpec } from '#engine/model/model.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { mixturesOf, planWithoutExperts } from '#engine/pruning/experts/expert-plan.ts'
import { type Method, parseOptions } from '#engine/pruning/method.ts'
import { narrowBlock, narrowedBlocks } from '#engine/pruning/methods/2ssp.ts'
import { likelyRows } from '#engine/pruning/methods/vocabulary.ts'
import { outlineOf } from '#engine/pruning/outline.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { findFormat, formats } from './index.ts'
import type { Planned } from './pieces.ts'

/** What to save: the plan of a run, or the settings of a run that will make one. */
interface SaveCheck {
  readonly model: string
  readonly plan: Plan | null
  readonly method: string
  readonly amount?: Amount | undefined
  readonly options?: Readonly<Record<string, unknown>> | undefined
  readonly formats: readonly string[]
  readonly ggufTypes: readonly string[]
}

/** The size in each format, or why the format cannot hold the model. Reads only headers. Throws for unknown formats. */
export async function checkSave(check: SaveCheck): Promise<FormatOutline[]> {
  const { checkpoint, spec } = await openSpec(check.model)
  try {
    const plans = check.plan ? [check.plan] : expectedPlans(spec, check)
    return await outlineLikely({ checkpoint, spec }, plans, check.formats, check.ggufTypes)
  } finally {
    await checkpoint.close()
  }
}

/** Plans that a method with these options may make. */
export function expectedPlans(
  spec: DecoderSpec,
  request: Pick<SaveCheck, 'method' | 'amount' | 'options'> & Pick<RunRequest, 'vocabulary'>,
): Plan[] {
  const vocabulary = likelyRows(spec, request.vocabulary)
  return plansOfMethod(spec, request).map((plan) => (vocabulary ? { ...plan, vocabulary } : plan))
}

function plansOfMethod(spec: DecoderSpec, { method: id, amount, options = {} }: Pick<SaveCheck, 'method' | 'amount' | 'options'>): Plan[] {
  if (id === denseMethod) return [densePlan(spec)]
  const method: Method = findMethod(id)
  const none = { attentionRemoved: 1, blocksRemoved: 1, neuronsRemovedPerBlock: 1 }
  if (!amount || !isPlain(amount)) return likelyPlans(spec, method.unit, none)
  const [budget, own] = [budgetFor(spec, amount), parseOptions(method, options)]
  return method.boundingPlans?.(spec, budget, own) ?? likelyPlans(spec, method.unit, outlineOf(method, spec, budget, own))
}

/**
 * The outline of every format for a model whose plan will be similar to one of these: the largest size and, if it differs, the smallest.
 */
export async function outlineLikely(
  model: Planned['model'],
  plans: readonly Plan[],
  ids: readonly string[],
  ggufTypes: readonly string[],
): Promise<FormatOutline[]> {
  const all: FormatOutline[][] = []
  for (const plan of plans) all.push(await outlineFormats({ model, plan }, ids, ggufTypes))
  return (all[0] ?? []).map((_, at) => joinOutlines(all.flatMap((outlines) => outlines[at] ?? [])))
}

/**
 * Joins the outlines of several plans into one: the largest that the format can hold, with the range of sizes, and with the reason if it
 * cannot hold some plans.
 */
function joinOutlines(outlines: readonly FormatOutline[]): FormatOutline {
  const possible = outlines.filter(({ bytes }) => bytes !== null)
  const sorted = [...possible].sort((one, other) => (one.bytes ?? 0) - (other.bytes ?? 0))
  const [least, most] = [sorted[0], sorted.at(-1)]
  if (!least || !most) return outlines[0] as FormatOutline
  const values = possible.map(({ keyValueBytes }) => keyValueBytes ?? 0)
  const problem = outlines.find((outline) => outline.problem !== null)?.problem
  const differs = least.bytes !== most.bytes || Math.min(...values) !== Math.max(...values)
  return {
    ...most,
    keyValueBytes: Math.max(...values),
    ...(differs ? { least: { bytes: least.bytes as number, keyValueBytes: Math.min(...values) } } : {}),
    ...(problem ? { perhaps: problem } : {}),
  }
}

/**
 * The outline of every format for a pruned model, or why the format cannot hold it. Reads no weights. Throws `usage` for unknown formats or
 * types.
 */
export async function outlineFormats(planned: Planned, ids: readonly string[], ggufTypes: readonly string[]): Promise<FormatOutline[]> {
  if (ids.length === 0) throw new EspalierError('usage', `No format was named. Choose from: ${Object.keys(formats).join(', ')}.`)
  const outlines: FormatOutline[] = []
  for (const format of ids) {
    // Types are outlined one by one, because some may hold the model where others cannot.
    for (const type of findFormat(format).filesIn ? ggufTypes : [null]) outlines.push(await outlineOne(planned, format, type))
  }
  return outlines
}

/** Error codes of a format that cannot hold the model, or whose library is not installed. */
const refusals: readonly string[] = ['infeasible', 'not-found']

async function outlineOne(planned: Planned, format: string, type: string | null): Promise<FormatOutline> {
  try {
    const outline = await findFormat(format).outline(planned, type ?? '')
    return { ...outline, notes: [...outline.notes], format, type, problem: null }
  } catch (error) {
    if (!(error instanceof EspalierError) || !refusals.includes(error.code)) throw error
    return { format, type, bytes: null, keyValueBytes: null, notes: [], problem: error.message }
  }
}

/** The outlines of the formats. Throws for the first one that cannot hold the model, and for unknown formats or types. */
export async function requireFormats(planned: Planned, ids: readonly string[], ggufTypes: readonly string[]): Promise<FormatOutline[]> {
  const outlines = await outlineFormats(planned, ids, ggufTypes)
  for (const { problem } of outlines) if (problem !== null) throw new EspalierError('infeasible', problem)
  return outlines
}

/** How much of each kind a method will remove. */
export interface Removal {
  readonly attentionRemoved: number | null
  readonly blocksRemoved: number | null
  readonly neuronsRemovedPerBlock: number | null
  /** The total over all mixtures. The same number is removed from each. */
  readonly expertsRemoved?: number | undefined
}

/**
 * Which blocks a method may remove parts from: attention from the last and MLPs from the first blocks, the other way round, or both from
 * the last blocks.
 */
type Placement = 'attentionLast' | 'attentionFirst' | 'sameBlocks'

/**
 * Plans of the kind and size that a method may decide on, before it has run. They show which formats will hold its result, and its smallest
 * and largest size. If a method removes attention submodules and MLPs one by one, sizes depend on whether the remaining parts of two blocks
 * fit in one, and some formats need attention in the first block.
 */
export function likelyPlans(spec: DecoderSpec, unit: string, removal: Removal): Plan[] {
  const placements: readonly Placement[] =
    unit === 'submodule'
      ? ['attentionLast', 'attentionFirst', 'sameBlocks']
      : (removal.attentionRemoved ?? 0) > 0 && unit !== 'block'
        ? ['attentionLast', 'attentionFirst']
        : ['attentionLast']
  return placements.map((placement) => likelyPlan(spec, unit, removal, placement))
}

function likelyPlan(spec: DecoderSpec, unit: string, removal: Removal, placement: Placement): Plan {
  const plan = withoutFirstExperts(spec, removal.expertsRemoved ?? 0)
  if (unit === 'width') return { ...plan, slice: { width: spec.hidden } }
  const { attentionRemoved, blocksRemoved, neuronsRemovedPerBlock } = removal
  const last = spec.blocks.length - 1
  const removeMany = (count: number, atEnd: boolean, part: Partial<BlockPlan>) => {
    for (let i = 0; i < count; i++) replace(atEnd ? last - i : i, part)
  }
  const replace = (index: number, part: Partial<BlockPlan>) => {
    const block = plan.blocks[index]
    if (block) plan.blocks[index] = { ...block, ...part }
  }
  const attentions = unit === 'block' ? (blocksRemoved ?? 0) : (attentionRemoved ?? 0)
  removeMany(attentions, placement !== 'attentionFirst', { attention: 'removed' })
  if (unit === 'block' || unit === 'submodule')
    removeMany(blocksRemoved ?? 0, unit === 'block' || placement !== 'attentionLast', { mlp: 'removed' })
  for (const index of narrowedBlocks(spec)) {
    const { width } = layoutOf(spec, index)
    const kept = width - (neuronsRemovedPerBlock ?? 0)
    const block = plan.blocks[index]
    if (neuronsRemovedPerBlock && width > 0 && kept > 0 && block) plan.blocks[index] = narrowBlock(spec, index, block, kept)
  }
  return plan
}

function withoutFirstExperts(spec: DecoderSpec, count: number): Plan {
  const mixtures = mixturesOf(spec)
  const each = count / Math.max(1, mixtures.length)
  return planWithoutExperts(spec, new Map(mixtures.map(({ block, experts }) => [block, experts.slice(0, each)])), 'dropped')
}
