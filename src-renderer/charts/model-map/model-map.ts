import type { ModelDescription, StackPart } from '#contract/models/models.ts'
import type { JudgedExperts } from '#contract/pruning/experts.ts'
import type { GateStep } from '#contract/pruning/gates.ts'
import type { BlockPlan, MlpPlan, Plan } from '#contract/pruning/plan.ts'
import type { Decision, Selection } from '#contract/runs/run.ts'
import { formatPlural } from '../../lib/format.ts'

type BlockSizes = ModelDescription['blocks']

/** One row of the map: the shares of its attention and of its MLP that remain. */
export interface MapBlock {
  index: number
  attention: number
  mlp: number
  /** The number of kept neurons out of `neurons`. */
  kept: number
  neurons: number
  /** For a mixture: its experts by number. */
  experts?: readonly ExpertCell[]
  /** The weights that a repair or a recovery has replaced. */
  replaced?: NonNullable<BlockPlan['replaced']>
  /** Parts of a checkpoint whose weights are all zeros. */
  zeroed?: readonly StackPart[]
}

/** One step of a run: what was decided, and the model after it. */
export interface MapFrame {
  title: string
  blocks: MapBlock[]
  changed: { block: number; part: 'attention' | 'mlp' | 'block' } | null
  decision: Decision | null
  selection: Selection | null
  gates?: GateStep
}

interface RunHistory {
  width: { kept: number[]; of: number } | null
  decisions: readonly Decision[]
  selections: readonly Selection[]
  gateSteps: readonly GateStep[]
  plan: Plan | null
  experts?: JudgedExperts | null
}

export function denseMap(sizes: BlockSizes): MapBlock[] {
  const neurons = Math.max(...sizes.map(({ intermediate }) => intermediate), 0)
  return sizes.map(({ experts, intermediate }, index) => {
    if (experts === undefined) return { index, attention: 1, mlp: 1, kept: neurons, neurons }
    const cells = expertCells(experts, { kept: 'all' }, index)
    return { index, attention: 1, mlp: 1, kept: intermediate, neurons: intermediate, experts: cells }
  })
}

/** The map of a finished plan. `hidden` is the dense width, against which SliceGPT's narrower one is drawn. */
export function planMap(sizes: BlockSizes, plan: Plan, hidden: number, judged?: JudgedExperts | null): MapBlock[] {
  const slice = plan.slice ? plan.slice.width / hidden : 1
  return denseMap(sizes).map((block) => {
    const decided = plan.blocks[block.index]
    if (!decided) return block
    const kept = neuronsLeft(decided.mlp, block.neurons)
    const experts = block.experts && expertCells(block.experts.length, decided.mlp, block.index, judged)
    return {
      ...block,
      ...(experts ? { experts } : {}),
      attention: decided.attention === 'removed' ? 0 : slice,
      mlp: block.neurons === 0 ? 0 : (kept / block.neurons) * slice * keptExpertShare(experts ?? []),
      kept,
      ...(decided.replaced ? { replaced: decided.replaced } : {}),
    }
  })
}

function neuronsLeft(mlp: BlockPlan['mlp'], neurons: number): number {
  if (mlp === 'removed') return 0
  return mlp.keptByExpert?.[0]?.length ?? (mlp.kept === 'all' ? neurons : mlp.kept.length)
}

/**
 * The map of a checkpoint on disk. Parts that are narrower than in its widest block, missing or all zeros are drawn as removed. Its plan
 * numbers the blocks before neighbours were joined, so it adds details only if the number of blocks is the same.
 */
export function checkpointMap({ blocks, plan, shape }: ModelDescription): MapBlock[] {
  const own = plan?.blocks.length === blocks.length ? plan : null
  const slice = own?.slice ? own.slice.width / shape.hidden : 1
  return denseMap(blocks).map((block) => {
    const { attentionParameters = 0, intermediate = 0, zeroed } = blocks[block.index] ?? {}
    const replaced = own?.blocks[block.index]?.replaced
    const kept = zeroed?.includes('mlp') ? 0 : intermediate
    return {
      ...block,
      attention: attentionParameters === 0 || zeroed?.includes('attention') ? 0 : slice,
      mlp: block.neurons === 0 ? 0 : (kept / block.neurons) * slice,
      kept,
      ...(zeroed ? { zeroed } : {}),
      ...(replaced ? { replaced } : {}),
    }
  })
}

/** Every step of a run, from the dense model to the plan. */
export function mapFrames(sizes: BlockSizes, history: RunHistory, hidden: number): MapFrame[] {
  const frames: MapFrame[] = [{ title: 'unpruned model', blocks: denseMap(sizes), changed: null, decision: null, selection: null }]
  const last = () => (frames.at(-1) as MapFrame).blocks
  for (const step of history.gateSteps) {
    const blocks = gatedMap(denseMap(sizes), step)
    const moved = step.reopened > 0 ? `${step.closed} closed, ${step.reopened} reopened` : `${step.closed} closed`
    frames.push({ title: `step ${step.step}: ${moved}`, blocks, changed: null, decision: null, selection: null, gates: step })
  }
  if (history.width && history.gateSteps.length === 0) {
    const { kept, of } = history.width
    const blocks = last().map((block) => narrowed(block, kept[block.index] ?? of, of))
    frames.push({ title: 'width: neurons chosen', blocks, changed: null, decision: null, selection: null })
  }
  for (const selection of history.selections) {
    frames.push({
      title: `generation ${selection.generation}`,
      blocks: candidateMap(denseMap(sizes), bestOf(selection)),
      changed: null,
      decision: null,
      selection,
    })
  }
  for (const decision of history.decisions) {
    frames.push({
      title: `round ${decision.round}: ${partOf(decision)} removed`,
      blocks: last().map((block) => (block.index === decision.block ? without(block, decision.kind) : block)),
      changed: { block: decision.block, part: decision.kind },
      decision,
      selection: null,
    })
  }
  const final = history.plan && planMap(sizes, history.plan, hidden, history.experts)
  const repaired = final?.some(({ replaced }) => replaced) ?? false
  if (final && (repaired || !isSameMap(final, last())))
    frames.push({ title: repaired ? 'plan, weights replaced' : 'plan', blocks: final, changed: null, decision: null, selection: null })
  return frames
}

/** What a decision removes: `attention of block 3`. */
export function partOf({ kind, block }: Decision): string {
  return kind === 'block' ? `block ${block}` : `${kind === 'mlp' ? 'MLP' : 'attention'} of block ${block}`
}

/** Share of the block stack's parameters that a map keeps, counted by submodule. */
export function keptShare(sizes: BlockSizes, blocks: readonly MapBlock[]): number {
  let kept = 0
  let all = 0
  for (const [index, size] of sizes.entries()) {
    const block = blocks[index]
    all += size.attentionParameters + size.mlpParameters
    kept += size.attentionParameters * (block?.attention ?? 1) + size.mlpParameters * (block?.mlp ?? 1)
  }
  return all === 0 ? 1 : kept / all
}

/** The text of a row for screen readers. */
export function describeBlock(block: MapBlock): string {
  const attention =
    block.attention === 0
      ? `attention ${block.zeroed?.includes('attention') ? 'all zeros' : 'removed'}`
      : block.attention === 1
        ? 'attention kept'
        : `attention narrowed to ${percent(block.attention)}`
  return `Block ${block.index}: ${attention}, ${describeMlp(block)}${describeReplaced(block)}`
}

/** Whether a repair or a recovery has replaced weights of a submodule. */
export function isReplaced({ replaced = [] }: MapBlock, part: 'attention' | 'mlp'): boolean {
  return replaced.includes(part) || replaced.includes(part === 'attention' ? 'output' : 'down')
}

function describeReplaced(block: MapBlock): string {
  const parts = (['attention', 'mlp'] as const).filter((part) => isReplaced(block, part))
  if (parts.length === 0) return ''
  const how = block.replaced?.some((one) => one === 'attention' || one === 'mlp') ? 'recovered' : 'repaired'
  return `, ${how}: ${parts.map((part) => (part === 'attention' ? 'attention' : 'MLP')).join(' and ')}`
}

function describeMlp({ mlp, kept, neurons, zeroed, experts }: MapBlock): string {
  if (mlp === 0) return `MLP ${zeroed?.includes('mlp') ? 'all zeros' : 'removed'}`
  if (experts) return `${describeExperts(experts)}${kept === neurons ? '' : `, ${kept} of ${formatPlural(neurons, 'neuron')} each`}`
  if (mlp === 1) return 'MLP kept'
  return kept === neurons ? `MLP narrowed to ${percent(mlp)}` : `${kept} of ${formatPlural(neurons, 'MLP neuron')} kept`
}

function narrowed(block: MapBlock, kept: number, of: number): MapBlock {
  return { ...block, kept, neurons: of, mlp: of === 0 ? 0 : kept / of }
}

function without(block: MapBlock, kind: Decision['kind']): MapBlock {
  return { ...block, ...(kind === 'mlp' ? {} : { attention: 0 }), ...(kind === 'attention' ? {} : { mlp: 0, kept: 0 }) }
}

/** The map while gates are trained. Which experts of a mixture stay shows in the plan only. */
function gatedMap(dense: MapBlock[], { kept, attentionRemoved }: GateStep): MapBlock[] {
  return dense.map((block) => {
    const { index, neurons, experts } = block
    const own = kept[index] ?? (experts ? experts.length : neurons)
    const attention = attentionRemoved.includes(index) ? 0 : 1
    if (experts) return { ...block, attention, mlp: experts.length === 0 ? 0 : own / experts.length }
    return { ...block, attention, kept: own, mlp: neurons === 0 ? 0 : own / neurons }
  })
}

/** The map of a candidate of the evolutionary search, given as `attention/mlp` with a 1 for each removed submodule. */
function candidateMap(dense: MapBlock[], candidate: string): MapBlock[] {
  const [attention = '', mlp = ''] = candidate.split('/')
  return dense.map((block) => ({
    ...block,
    attention: attention[block.index] === '1' ? 0 : 1,
    mlp: mlp[block.index] === '1' ? 0 : 1,
    kept: mlp[block.index] === '1' ? 0 : block.kept,
  }))
}

function bestOf({ candidates, survivors }: Selection): string {
  return candidates[survivors[0] ?? 0] ?? ''
}

function isSameMap(left: MapBlock[], right: MapBlock[]): boolean {
  return left.every((block, at) => block.attention === right[at]?.attention && Math.abs(block.mlp - (right[at]?.mlp ?? -1)) < 1e-9)
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

const gutter = 30
const labelSpace = 80
const trunkGap = 9
const smallestCell = 12

/** The positions of the parts of a map, in pixels. Lengths are proportional to parameters, on one scale for both sides of the trunk. */
interface MapLayout {
  width: number
  height: number
  rowHeight: number
  barHeight: number
  trunk: number
  attention: number
  mlp: number
  labels: number
  top: number
}

export function layoutMap(blocks: ModelDescription['blocks'], width: number): MapLayout {
  const attentionParameters = Math.max(...blocks.map((block) => block.attentionParameters), 1)
  const mlpParameters = Math.max(...blocks.map((block) => block.mlpParameters), 1)
  const space = Math.max(60, width - gutter - labelSpace - 2 * trunkGap)
  const attention = Math.max(smallestCell, (space * attentionParameters) / (attentionParameters + mlpParameters))
  const rowHeight = blocks.length <= 16 ? 26 : blocks.length <= 32 ? 20 : blocks.length <= 48 ? 16 : 13
  const top = 18
  return {
    width,
    height: top + blocks.length * rowHeight + 20,
    rowHeight,
    barHeight: Math.round(rowHeight * 0.5),
    trunk: gutter + attention + trunkGap,
    attention,
    mlp: Math.max(smallestCell, space - attention),
    labels: width - labelSpace + 10,
    top,
  }
}

/** The tree grows upwards: the first block is the lowest row. */
export function rowTop(layout: MapLayout, blocks: number, index: number): number {
  return layout.top + (blocks - 1 - index) * layout.rowHeight
}

/** One expert of a mixture in the map. */
export interface ExpertCell {
  state: 'kept' | 'removed' | 'constant'
  /** How often it is chosen, relative to the busiest expert of its mixture; 1 if unknown. */
  use: number
}

/** The experts of a block as a plan leaves them, with their use if a run recorded it. */
export function expertCells(count: number, mlp: MlpPlan, block: number, judged?: JudgedExperts | null): ExpertCell[] {
  const tokens = judged?.blocks.find((one) => one.block === block)?.tokens
  const busiest = Math.max(...(tokens ?? []), 1)
  const kept = mlp === 'removed' ? new Set<number>() : mlp.experts && new Set(mlp.experts)
  const constants = new Set(mlp === 'removed' ? [] : mlp.constants)
  return Array.from({ length: count }, (_, expert) => ({
    state: constants.has(expert) ? 'constant' : kept && !kept.has(expert) ? 'removed' : 'kept',
    use: tokens ? (tokens[expert] ?? 0) / busiest : 1,
  }))
}

const countOf = (cells: readonly ExpertCell[], state: ExpertCell['state']): number => cells.filter((cell) => cell.state === state).length

/** The share of a mixture's experts that are kept. Constants do not count. */
const keptExpertShare = (cells: readonly ExpertCell[]): number => (cells.length === 0 ? 1 : countOf(cells, 'kept') / cells.length)

/** `96 of 128 experts kept, 32 replaced by constants`. */
function describeExperts(cells: readonly ExpertCell[]): string {
  const [kept, constants] = [countOf(cells, 'kept'), countOf(cells, 'constant')]
  const all = kept === cells.length ? `all ${formatPlural(kept, 'expert')} kept` : `${kept} of ${formatPlural(cells.length, 'expert')} kept`
  return constants > 0 ? `${all}, ${constants} replaced by constants` : all
}

/** The label beside a row: `96/128`. */
export const expertLabel = (cells: readonly ExpertCell[]): string => `${countOf(cells, 'kept')}/${cells.length}`
