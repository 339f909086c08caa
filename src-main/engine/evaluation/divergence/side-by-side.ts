import { div, keep, maximum, mul, sqrt, square, sub, sum, type Tensor2D } from '@tensorflow/tfjs-core'
import type { BlockDistance, Distance } from '#contract/divergence.ts'
import type { Plan } from '#contract/plan.ts'
import { disposeResidual } from '#engine/model/decoder.ts'
import { finalHidden, type WindowGroup } from '#engine/model/forward.ts'
import { needsGather } from '#engine/model/gather-mlp.ts'
import { denseView, type ModelView } from '#engine/model/view.ts'
import { breathe, type Stream, Walk } from '#engine/model/walk.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights.ts'
import { valuesOf } from '#engine/tensor/read.ts'

/** A pruned model beside its dense one: the view, and the plan that it was made by. */
export interface Subject {
  readonly view: ModelView
  readonly plan: Plan
}

export interface SideBySide {
  /** Final hidden states behind the norm, [B*T, D]: of the dense model, then of each subject. The caller disposes of them. */
  readonly dense: Tensor2D
  readonly subjects: readonly Tensor2D[]
  /** Sums over tokens by subject and block; null where the stream has another basis. */
  readonly distances: readonly (BlockDistance[] | null)[]
}

/**
 * Takes windows through the dense model and all subjects at once, part by part, so that only one stream of each is alive. A subject shares
 * the dense model's stream up to the first part in which they differ.
 */
export async function passSideBySide(
  view: ModelView,
  subjects: readonly Subject[],
  group: WindowGroup,
  { signal, progress }: { signal: AbortSignal; progress?: () => void },
): Promise<SideBySide> {
  const dense = denseView(view.model)
  const walk = new Walk(dense)
  const companions = subjects.map((subject) => new Companion(subject, group.ids.length))
  const stream = await walk.embed(group.ids, group.batch)
  try {
    for (const companion of companions) await companion.begin(group)
    for (const part of dense.parts) {
      signal.throwIfAborted()
      for (const companion of companions) companion.splitBefore(part, stream)
      const apart = companions.some((companion) => companion.isApart)
      const output = await passAndSee(walk, part, stream, apart)
      for (const companion of companions) await companion.pass(part, output, stream)
      output?.dispose()
      progress?.()
      await breathe()
    }
    return {
      dense: finalHidden(dense, stream.residual.x),
      subjects: companions.map((companion) => companion.finish(stream)),
      distances: companions.map(({ distances }) => distances),
    }
  } finally {
    disposeResidual(stream.residual)
    walk.dispose()
    for (const companion of companions) companion.dispose()
  }
}

/** Takes a stream past a part; what the part gave, where that is asked for. */
async function passAndSee(walk: Walk, part: Part, stream: Stream, wanted: boolean): Promise<Tensor2D | undefined> {
  let output: Tensor2D | undefined
  const see = { observe: (_: Stream, seen: { output?: Tensor2D }) => (output = seen.output && keep(seen.output.clone())) }
  await walk.pass(part, [stream], wanted ? { observe: (one, seen) => void see.observe(one, seen) } : {})
  return output
}

/** One subject on its way beside the dense model. */
class Companion {
  readonly #subject: Subject
  readonly #walk: Walk
  readonly #tokens: number
  readonly distances: BlockDistance[] | null
  #stream: Stream | undefined

  constructor(subject: Subject, tokens: number) {
    this.#subject = subject
    this.#tokens = tokens
    this.#walk = new Walk(subject.view)
    const nothing = (): Distance => ({ error: 0, cosine: tokens })
    const layouts = subject.view.model.spec.blocks
    this.distances = subject.plan.slice
      ? null
      : layouts.map(({ attention, width }) => ({
          stream: nothing(),
          attention: attention ? nothing() : null,
          mlp: width > 0 ? nothing() : null,
        }))
  }

  /** Whether it has a stream of its own. */
  get isApart(): boolean {
    return this.#stream !== undefined
  }

  /** A sliced model differs from its embeddings on. */
  async begin({ ids, batch }: WindowGroup): Promise<void> {
    if (this.#subject.plan.slice) this.#stream = await this.#walk.embed(ids, batch)
  }

  splitBefore(part: Part, { batch, tokens, residual }: Stream): void {
    if (this.#stream || isUntouched(this.#subject.plan, part)) return
    this.#stream = { batch, tokens, residual: { x: residual.x.clone(), source: residual.source.clone() } }
  }

  async pass(part: Part, denseOutput: Tensor2D | undefined, dense: Stream): Promise<void> {
    const own = this.#stream
    if (!own) return
    const present = this.#subject.view.parts.includes(part)
    const output = present ? await passAndSee(this.#walk, part, own, true) : undefined
    if (!present) {
      // The block's input for whatever follows: nothing was added here.
      own.residual.source.dispose()
      own.residual = { x: own.residual.x, source: own.residual.x.clone() }
    }
    this.#measure(part, { output, denseOutput, own, dense })
    output?.dispose()
  }

  #measure(part: Part, seen: { output: Tensor2D | undefined; denseOutput: Tensor2D | undefined; own: Stream; dense: Stream }): void {
    const block = this.distances?.[blockOf(part)]
    if (!block) return
    const { output, denseOutput, own, dense } = seen
    const added = output && denseOutput ? distanceOf(output, denseOutput) : { error: this.#tokens, cosine: null }
    if (isAttention(part)) block.attention = added
    else block.mlp = added
    block.stream = distanceOf(own.residual.x, dense.residual.x)
  }

  /** Its final hidden states; those of the dense model where it never parted. */
  finish({ residual }: Stream): Tensor2D {
    return finalHidden(this.#subject.view, this.#stream?.residual.x ?? residual.x)
  }

  dispose(): void {
    if (this.#stream) disposeResidual(this.#stream.residual)
    this.#walk.dispose()
  }
}

/** Whether a plan leaves a part of the dense model as it is. */
function isUntouched({ blocks, slice }: Plan, part: Part): boolean {
  const block = blocks[blockOf(part)]
  if (!block || slice) return false
  if (isAttention(part)) return block.attention === 'kept' && !block.replaced?.includes('output')
  return block.mlp !== 'removed' && !needsGather(block.mlp) && !block.replaced?.includes('down')
}

/** Sums over rows of |a - b| / |b| and of the cosine of a and b: [N, D] each. */
function distanceOf(a: Tensor2D, b: Tensor2D): Distance {
  const tiny = 1e-30
  const norm = (x: Tensor2D) => sqrt(sum(square(x), 1))
  const errors = valuesOf(() => div(norm(sub(a, b)), maximum(norm(b), tiny)))
  const cosines = valuesOf(() => div(sum(mul(a, b), 1), maximum(mul(norm(a), norm(b)), tiny)))
  return { error: total(errors), cosine: total(cosines) }
}

const total = (values: Float32Array): number => values.reduce((all, value) => all + value, 0)
