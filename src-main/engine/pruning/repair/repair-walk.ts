import { gather, keep, mul, sub, type Tensor1D, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import type { Plan } from '#contract/pruning/plan.ts'
import type { Windows } from '#engine/data/windows.ts'
import { groupWindows } from '#engine/model/forward.ts'
import { cloneResidual, disposeResidual, type PartActivations } from '#engine/model/parts/part.ts'
import type { PlanTensors } from '#engine/model/views/plan-tensors.ts'
import { type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { type Stream, Walk } from '#engine/model/walk.ts'
import { blockOf, isAttention, mlpOfWeights, type Part, type PartWeights } from '#engine/model/weights/weights.ts'
import type { Equations } from './choose-ridge.ts'
import { NormalEquations } from './normal-equations.ts'
import { isNormed, type Segment, segmentsToRepair, takesOver } from './segments.ts'

/** A group of windows and its stream in one of the two models, [B*T, D]. */
interface Lane extends Stream {
  readonly index: number
  /** Whether fitted weights are judged on these windows. If not, they are fitted on them. */
  readonly heldOut: boolean
}

/** The windows that a mixture runs on. */
export interface SeenLane extends Pick<Lane, 'index' | 'heldOut'> {
  /** Whether they run in the model repaired so far, not in the dense one. */
  readonly repaired: boolean
}

/** A projection as the plan leaves it. */
interface Projection {
  /** [D, K]. */
  readonly weight: Tensor2D
  /** [D]. A repair does not change it. */
  readonly bias: Tensor1D | undefined
}

/** How a model was pruned. */
interface PrunedBy {
  readonly plan: Plan
  readonly tensors: PlanTensors | undefined
}

/**
 * Takes windows through the dense model and, for `in-order` repair, through the pruned model as well. One part's weights are leased at a
 * time. Between parts only the streams stay in memory, and the inputs of one projection if there is room.
 */
export class RepairWalk {
  readonly #pruned: ModelView
  readonly #plan: Plan
  readonly #inOrder: boolean
  readonly #toRepair: ReadonlySet<Segment>
  readonly #signal: AbortSignal
  readonly #walk: Walk
  readonly #prunedWalk: Walk
  /** The dense model's streams before the part that a segment keeps. */
  #dense: Lane[] = []
  /** The dense model's streams after the segment. Empty until they are computed. */
  #ahead: Lane[] = []
  /** The streams before the segment of the pruned model as repaired so far. Empty while they equal the dense ones. */
  #repaired: Lane[] = []
  /** The dense model's streams before the segment, including the removed parts at its start. */
  #start: Tensor2D[] = []
  /**
   * The output of the projection in the dense model, if a norm follows it. The stream does not show it, because the norm cannot be
   * inverted.
   */
  #outputs: Tensor2D[] = []
  /** The input of the projection in the dense model. Kept if there is room and the projection takes over removed parts. */
  #inputs: Tensor2D[] = []
  /** The input of the projection in the repaired model. Kept if there is room. */
  #repairedInputs: Tensor2D[] = []
  #keepsInputs = false

  constructor(view: ModelView, { plan, tensors }: PrunedBy, segments: readonly Segment[], inOrder: boolean, signal: AbortSignal) {
    this.#pruned = viewWithPlan(view.model, plan, tensors, { passing: true })
    this.#plan = plan
    this.#inOrder = inOrder
    this.#signal = signal
    this.#walk = new Walk(view, view.model.products.passes)
    this.#prunedWalk = new Walk(this.#pruned, view.model.products.passes)
    this.#toRepair = segmentsToRepair(view.spec, plan, segments, inOrder)
  }

  /**
   * Embeds the windows. The last eighth of them, at least one, is held out. `keepsInputs` says whether there is room for the inputs of a
   * projection.
   */
  async begin(windows: Windows, keepsInputs: boolean): Promise<void> {
    this.#keepsInputs = keepsInputs
    const fitted = windows.length - Math.max(1, Math.floor(windows.length / 8))
    const groups = [...groupWindows(windows.slice(0, fitted)), ...groupWindows(windows.slice(fitted))]
    const fittedGroups = groupWindows(windows.slice(0, fitted)).length
    for (const [index, { ids, batch }] of groups.entries()) {
      const stream = await this.#walk.embed(ids, batch)
      this.#dense.push({ ...stream, index, heldOut: index >= fittedGroups })
    }
  }

  /** Whether a segment's projection has other inputs or another target than in the dense model. */
  needsRepair(segment: Segment): boolean {
    return this.#toRepair.has(segment)
  }

  /** Moves the dense streams to the part that a segment keeps. */
  async enter({ leading }: Segment): Promise<void> {
    this.#start = this.#dense.map(({ residual }) => residual.x.clone())
    if (leading.length > 0) this.#splitStreams()
    await this.#passAll(this.#walk, leading, this.#dense)
  }

  /**
   * Sums the equations of a segment's projection, and returns them with the projection as the plan leaves it. The caller disposes of both.
   */
  async equations(segment: Segment): Promise<{ equations: Equations; weight: Tensor2D }> {
    const { part } = segment
    const { weight, bias } = await this.#projection(part)
    const equations = { fitted: new NormalEquations(weight), heldOut: new NormalEquations(weight) }
    const add = (lane: Lane, inputs: Tensor2D, outputs: Tensor2D) => {
      this.#signal.throwIfAborted()
      equations[lane.heldOut ? 'heldOut' : 'fitted'].add(inputs, bias ? sub(outputs, bias) : outputs)
    }
    const takes = takesOver(this.#pruned.spec, segment)
    await this.#goAhead(segment, (lane, seen) => {
      const output = seen.output as Tensor2D
      if (!takes) add(lane, this.#keep(part, seen.inner), output)
      else if (this.#keepsInputs) this.#inputs[lane.index] = keep(this.#keep(part, seen.inner).clone())
      if (isNormed(this.#pruned.spec, part)) this.#outputs[lane.index] = keep(output.clone())
    })
    if (takes) await this.#takeOver(part, add)
    if (this.#repaired.length > 0) await this.#look(this.#prunedWalk, part, this.#repaired, add)
    bias?.dispose()
    return { equations, weight }
  }

  /**
   * Runs a mixture as the plan leaves it, on the dense streams and, for `in-order` repair, on those of the repaired model. `see` receives
   * the activations of each lane and a function that returns its target. The streams stay before the mixture. With `only`, just these
   * experts run, and `see` receives no output.
   */
  async lookAtMixture(
    segment: Segment,
    see: (lane: SeenLane, seen: PartActivations, wanted: () => Tensor2D) => void,
    only?: (expert: number) => boolean,
  ): Promise<void> {
    const { part } = segment
    if (this.#ahead.length === 0)
      await this.#goAhead(segment, (lane, { output }) => {
        if (output && isNormed(this.#pruned.spec, part)) this.#outputs[lane.index] = keep(output.clone())
      })
    for (const lanes of [this.#dense, this.#repaired]) {
      const visitor = {
        signal: this.#signal,
        only,
        observe: (lane: Lane, seen: PartActivations) => {
          const from = lanes === this.#repaired ? lane.residual.x : (this.#start[lane.index] as Tensor2D)
          const { index, heldOut } = lane
          tidy(() => see({ index, heldOut, repaired: lanes === this.#repaired }, seen, () => this.#wanted(lane, from)))
        },
      }
      if (only) {
        await this.#prunedWalk.look(part, lanes, visitor)
        continue
      }
      const passing = lanes.map(cloneLane)
      try {
        await this.#prunedWalk.pass(part, passing, visitor)
      } finally {
        disposeLanes(passing)
      }
    }
  }

  /** Calls `use` with the weights of a part as the plan leaves them. They are valid until it returns. */
  async withPruned(part: Part, use: (weights: PartWeights) => Promise<void>): Promise<void> {
    const weights = await this.#pruned.lease(part)
    try {
      await use(weights)
    } finally {
      this.#pruned.release(part, weights)
    }
  }

  /**
   * Adds the equations of a projection that takes over removed parts. Their output is known only once the streams have passed them. By then
   * the inputs of the projection were kept, or the part runs again.
   */
  async #takeOver(part: Part, add: (lane: Lane, inputs: Tensor2D, outputs: Tensor2D) => void): Promise<void> {
    if (!this.#keepsInputs) return this.#look(this.#walk, part, this.#dense, add)
    for (const lane of this.#dense)
      tidy(() => add(lane, this.#inputs[lane.index] as Tensor2D, this.#wanted(lane, this.#start[lane.index] as Tensor2D)))
  }

  /** Runs a part without moving the streams and adds the inputs and targets of its projection. */
  async #look(walk: Walk, part: Part, lanes: Lane[], add: (lane: Lane, inputs: Tensor2D, outputs: Tensor2D) => void): Promise<void> {
    const pruned = lanes === this.#repaired
    await walk.look(part, lanes, {
      signal: this.#signal,
      observe: (lane, { inner }) =>
        tidy(() => {
          const from = pruned ? lane.residual.x : (this.#start[lane.index] as Tensor2D)
          if (pruned && this.#keepsInputs) this.#repairedInputs[lane.index] = keep(inner.clone())
          add(lane, pruned ? inner : this.#keep(part, inner), this.#wanted(lane, from))
        }),
    })
  }

  /**
   * Returns the target of a projection: what moves the stream to the dense one after the segment or, if a norm follows the projection, its
   * output in the dense model.
   */
  #wanted({ index }: Lane, from: Tensor2D): Tensor2D {
    const output = this.#outputs[index]
    if (output) return output
    const { residualScale } = this.#pruned.spec
    const missing = sub<Tensor2D>((this.#ahead[index] as Lane).residual.x, from)
    return residualScale === undefined ? missing : mul(missing, 1 / residualScale)
  }

  /** Moves all streams past a segment. `replace` puts the new projection into the weights; without it, those of the plan are used. */
  async leave(segment: Segment, replace?: (own: PartWeights) => Promise<PartWeights>): Promise<void> {
    if (this.#ahead.length === 0) await this.#goAhead(segment)
    if (this.needsRepair(segment)) {
      this.#splitStreams()
      await this.#passRepaired(segment.part, { signal: this.#signal, ...(replace ? { replace } : {}) })
    }
    disposeLanes(this.#dense)
    this.#dense = this.#ahead
    this.#ahead = []
    this.#forget()
  }

  async #passRepaired(part: Part, visitor: NonNullable<Parameters<Walk['pass']>[2]>): Promise<void> {
    const inners = this.#repairedInputs
    if (inners.length > 0) await this.#prunedWalk.complete(part, this.#repaired, inners, visitor)
    else if (this.#repaired.length > 0) await this.#prunedWalk.pass(part, this.#repaired, visitor)
  }

  #forget(): void {
    for (const x of [...this.#start, ...this.#outputs, ...this.#inputs, ...this.#repairedInputs]) x?.dispose()
    this.#repairedInputs = []
    this.#start = []
    this.#outputs = []
    this.#inputs = []
  }

  /** For `in-order` repair, gives the pruned model its own streams from here on. */
  #splitStreams(): void {
    if (this.#inOrder && this.#repaired.length === 0) this.#repaired = this.#dense.map(cloneLane)
  }

  /** Computes the dense streams after a segment. `see` receives the input and output of its projection on the way. */
  async #goAhead({ part, following }: Segment, see?: (lane: Lane, seen: PartActivations) => void): Promise<void> {
    this.#ahead = this.#dense.map(cloneLane)
    await this.#walk.pass(part, this.#ahead, { signal: this.#signal, ...(see ? { observe: see } : {}) })
    await this.#passAll(this.#walk, following, this.#ahead)
  }

  async #passAll(walk: Walk, parts: readonly Part[], lanes: readonly Lane[]): Promise<void> {
    for (const part of parts) await walk.pass(part, lanes, { signal: this.#signal })
  }

  async #projection(part: Part): Promise<Projection> {
    let own: Projection | undefined
    await this.withPruned(part, async (weights) => {
      const { weight, bias } = lastProjectionOf(weights)
      own = { weight: weight.clone(), bias: bias?.clone() }
    })
    return own as unknown as Projection
  }

  #keep(part: Part, inner: Tensor2D): Tensor2D {
    const kept = this.#keptNeurons(part)
    return kept ? gather(inner, tensor1d([...kept], 'int32'), 1) : inner
  }

  #keptNeurons(part: Part): readonly number[] | undefined {
    const mlp = this.#plan.blocks[blockOf(part)]?.mlp
    return isAttention(part) || mlp === undefined || mlp === 'removed' || mlp.kept === 'all' ? undefined : mlp.kept
  }

  dispose(): void {
    for (const lanes of [this.#dense, this.#ahead, this.#repaired]) disposeLanes(lanes)
    this.#forget()
    this.#walk.dispose()
    this.#prunedWalk.dispose()
    this.#pruned.dispose()
  }
}

function lastProjectionOf(weights: PartWeights): Projection {
  const { attention } = weights
  if (!attention) {
    const mlp = mlpOfWeights(weights)
    return { weight: mlp.down, bias: mlp.downBias }
  }
  return { weight: attention.output, bias: attention.outputBias }
}

const cloneLane = (lane: Lane): Lane => ({ ...lane, residual: cloneResidual(lane.residual) })

function disposeLanes(lanes: readonly Lane[]): void {
  for (const { residual } of lanes) disposeResidual(residual)
}
