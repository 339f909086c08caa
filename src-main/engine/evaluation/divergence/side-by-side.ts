import { keep, type Tensor2D } from '@tensorflow/tfjs-core'
import type { BlockDistance, Distance } from '#contract/inspection/divergence.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { layoutOf } from '#engine/architectures/spec.ts'
import { disposeResidual } from '#engine/model/decoder.ts'
import { finalHidden, type WindowGroup } from '#engine/model/forward.ts'
import { copyStream, disposeStreams, skipPart } from '#engine/model/streams.ts'
import { needsGather } from '#engine/model/views/gather-mlp.ts'
import { denseView, type ModelView } from '#engine/model/views/view.ts'
import { breathe, type Stream, Walk } from '#engine/model/walk.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights/weights.ts'
import { rowDistances } from '#engine/tensor/distance.ts'

/** A pruned model that is compared with its dense model: its view and its plan. */
export interface Subject {
  readonly view: ModelView
  readonly plan: Plan
}

interface SideBySide {
  /** Final hidden states of the dense model after the norm, [B*T, D]. The caller disposes of these and of the subjects'. */
  readonly dense: Tensor2D
  readonly subjects: readonly Tensor2D[]
  /** Distances summed over tokens, by subject and block; null for a subject whose stream has another basis. */
  readonly distances: readonly (BlockDistance[] | null)[]
}

/** Subjects that have been equal so far, with the stream that they share. Without a stream, they still equal the dense model. */
interface Branch {
  readonly members: readonly Companion[]
  readonly stream: Stream | undefined
}

/** The dense model's pass through a part: the stream after it, and what the part added to it. */
interface DensePass {
  readonly stream: Stream
  readonly output: Tensor2D | undefined
}

/**
 * Takes windows through the dense model and all subjects together, part by part, so that only one stream of each is in memory. Subjects
 * share the dense model's stream, and each other's, up to the first part in which they differ.
 */
export async function passSideBySide(
  view: ModelView,
  subjects: readonly Subject[],
  group: WindowGroup,
  { signal, progress }: { signal: AbortSignal; progress?: () => void },
): Promise<SideBySide> {
  const dense = denseView(view.model)
  const walk = new Walk(dense)
  const companions = subjects.map((subject, index) => new Companion(subject, index, group.ids.length))
  const stream = await walk.embed(group.ids, group.batch)
  let branches: Branch[] = []
  try {
    branches = await beginBranches(companions, group)
    for (const part of dense.parts) {
      signal.throwIfAborted()
      branches = divideBefore(part, branches, stream)
      const apart = branches.some((branch) => branch.stream)
      const output = await passAndSee(walk, part, stream, apart)
      for (const branch of branches) await passBranch(part, branch, { stream, output })
      output?.dispose()
      progress?.()
      await breathe()
    }
    return {
      dense: finalHidden(dense, stream.residual.x),
      subjects: companions.map((companion) => companion.finish(streamOf(companion, branches) ?? stream)),
      distances: companions.map(({ distances }) => distances),
    }
  } finally {
    disposeResidual(stream.residual)
    disposeStreams(branches.flatMap((branch) => branch.stream ?? []))
    walk.dispose()
    for (const companion of companions) companion.dispose()
  }
}

/** A sliced model differs from the dense model already in the embeddings. The other subjects begin with the dense model's stream. */
async function beginBranches(companions: readonly Companion[], group: WindowGroup): Promise<Branch[]> {
  const branches: Branch[] = [{ members: companions.filter(({ sliced }) => !sliced), stream: undefined }]
  for (const companion of companions) {
    if (companion.sliced) branches.push({ members: [companion], stream: await companion.walk.embed(group.ids, group.batch) })
  }
  return branches
}

/** Splits branches before a part, so that the plans of all members of a branch treat the part the same way. */
function divideBefore(part: Part, branches: readonly Branch[], dense: Stream): Branch[] {
  return branches.flatMap(({ members, stream }) =>
    [...Map.groupBy(members, (member) => member.changeOf(part))].map(([change, own], index): Branch => {
      if (stream) return { members: own, stream: index === 0 ? stream : copyStream(stream) }
      return { members: own, stream: change === unchanged ? undefined : copyStream(dense) }
    }),
  )
}

const streamOf = (companion: Companion, branches: readonly Branch[]): Stream | undefined =>
  branches.find(({ members }) => members.includes(companion))?.stream

/** Takes a branch through a part and measures its distance from the dense model there. */
async function passBranch(part: Part, { members, stream }: Branch, dense: DensePass): Promise<void> {
  const [first] = members
  if (!first || !stream) return
  const present = first.view.parts.includes(part)
  const output = present ? await passAndSee(first.walk, part, stream, true) : undefined
  if (!present) skipPart(part, stream)
  const nothing: Distance = { error: stream.batch * stream.tokens, cosine: null }
  if (!first.sliced) {
    const added = output && dense.output ? rowDistances(output, dense.output) : nothing
    const endsBlock = !isAttention(part) || layoutOf(first.view.model.spec, blockOf(part)).width === 0
    const behind = endsBlock ? rowDistances(stream.residual.x, dense.stream.residual.x) : undefined
    for (const member of members) member.note(part, added, behind)
  }
  output?.dispose()
}

/** Takes a stream through a part. Returns the part's output if requested. */
async function passAndSee(walk: Walk, part: Part, stream: Stream, wanted: boolean): Promise<Tensor2D | undefined> {
  let output: Tensor2D | undefined
  const see = { observe: (_: Stream, seen: { output?: Tensor2D }) => (output = seen.output && keep(seen.output.clone())) }
  await walk.pass(part, [stream], wanted ? { observe: (one, seen) => void see.observe(one, seen) } : {})
  return output
}

const unchanged = ''

/** The state of one subject during the pass. */
class Companion {
  readonly view: ModelView
  readonly walk: Walk
  readonly distances: BlockDistance[] | null
  readonly #plan: Plan
  readonly #index: number

  constructor({ view, plan }: Subject, index: number, tokens: number) {
    this.view = view
    this.walk = new Walk(view)
    this.#plan = plan
    this.#index = index
    const nothing = (): Distance => ({ error: 0, cosine: tokens })
    this.distances = plan.slice
      ? null
      : view.model.spec.blocks.map(({ attention, width }) => ({
          stream: nothing(),
          attention: attention ? nothing() : null,
          mlp: width > 0 ? nothing() : null,
        }))
  }

  get sliced(): boolean {
    return this.#plan.slice !== undefined
  }

  /** A string for what the plan does to a part. Equal strings mean equal parts. */
  changeOf(part: Part): string {
    const { attention, mlp, replaced = [] } = this.#plan.blocks[blockOf(part)] ?? { attention: 'kept', mlp: { kept: 'all' } }
    if (this.sliced || replaced.includes(isAttention(part) ? 'output' : 'down')) return `of ${this.#index} alone`
    if (isAttention(part)) return attention === 'kept' ? unchanged : attention
    if (mlp === 'removed') return mlp
    return needsGather(mlp) ? JSON.stringify(mlp) : unchanged
  }

  /**
   * Records the subject's distance from the dense model at a part: of what the part added and, at the end of a block, of the stream after
   * it.
   */
  note(part: Part, added: Distance, behind: Distance | undefined): void {
    const block = this.distances?.[blockOf(part)]
    if (!block) return
    if (isAttention(part)) block.attention = added
    else block.mlp = added
    if (behind) block.stream = behind
  }

  /** The subject's final hidden states, from its last stream. */
  finish({ residual }: Stream): Tensor2D {
    return finalHidden(this.view, residual.x)
  }

  dispose(): void {
    this.walk.dispose()
  }
}
