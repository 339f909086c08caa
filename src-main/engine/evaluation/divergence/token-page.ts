import { keep, slice, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { BlockDistance, Distance, TokenPage } from '#contract/inspection/divergence.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { layoutOf } from '#engine/architectures/spec.ts'
import type { Windows } from '#engine/data/windows.ts'
import { requireFinite } from '#engine/model/finite.ts'
import { finalHidden, groupWindows, type WindowGroup } from '#engine/model/forward.ts'
import { type HeadChunk, headLogits, type Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import {
  addLogs,
  addTargetLogits,
  type ComparedLogits,
  compareLogits,
  headOf,
  nextTokens,
  type Tile,
  tilesOf,
} from '#engine/model/parts/head/token-losses.ts'
import { disposeResidual } from '#engine/model/parts/part.ts'
import { needsGather } from '#engine/model/views/gather-mlp.ts'
import { denseView, type ModelView } from '#engine/model/views/view.ts'
import { breathe, copyStream, disposeStreams, type Stream, skipPart, Walk } from '#engine/model/walk.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights/weights.ts'
import { rowDistances } from '#engine/tensor/sums.ts'
import { TextStream } from '#engine/tokenizer/text-stream.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { kindOf, scriptOf, tokenKinds } from './token-kinds.ts'

/**
 * Divides windows into pages. The first page is one window, so that it is available early; the others have as many windows as fit in one
 * pass.
 */
export function pagesOf(windows: Windows): WindowGroup[] {
  const [first] = groupWindows(windows.slice(0, 1))
  const rest = groupWindows(windows.slice(1)).map((group) => ({ ...group, indices: group.indices.map((index) => index + 1) }))
  return first ? [first, ...rest] : rest
}

interface PageContext {
  readonly view: ModelView
  readonly subjects: readonly Subject[]
  readonly tokenizer: Tokenizer | undefined
  readonly signal: AbortSignal
  /** Called after each part of the model that the page's windows have passed. */
  progress?(): void
}

/** Everything that a page of tokens shows, computed for one group of windows. */
export async function makeTokenPage(context: PageContext, page: number, group: WindowGroup): Promise<TokenPage> {
  const { view, subjects, tokenizer, signal, progress } = context
  const dense = denseView(view.model)
  const seen = await passSideBySide(view, subjects, group, { signal, ...(progress ? { progress } : {}) })
  const scores = await compareTokens(dense.model.vocabulary, seen, nextTokens(group.ids, group.tokens), signal).finally(() => {
    for (const hidden of [seen.dense, ...seen.subjects]) hidden.dispose()
  })
  const shift = shifter(group.tokens)
  const distribution = (one: TokenScores) => ({
    loss: shift(one.loss),
    top: shift(one.top, scores.alternatives),
    probability: shift(one.probability, scores.alternatives),
  })
  const texts = textsOf(group, tokenizer)
  const own = distribution(scores.dense)
  const runs = scores.subjects.map((one) => ({ ...distribution(one), divergence: shift(one.divergence), change: shift(one.change) }))
  return {
    page,
    windows: group.indices.map((window) => ({ window, tokens: group.tokens })),
    alternatives: scores.alternatives,
    texts,
    ...kindsOf(texts, group.tokens),
    pieces: piecesOf([own, ...runs], tokenizer),
    dense: own,
    runs,
    distances: [...seen.distances],
  }
}

/**
 * Row i of a window predicts token i + 1. Returns a function that moves numbers from rows to the tokens they are about, and rounds them to
 * seven digits.
 */
function shifter(tokens: number): (values: ArrayLike<number>, each?: number) => number[] {
  return (values, each = 1) =>
    Array.from({ length: values.length }, (_, i) => {
      const place = Math.floor(i / each)
      return place % tokens === 0 ? 0 : Number(at(values, i - each).toPrecision(7))
    })
}

/** The text of each token. A character that spans several tokens is shown with its last. */
function textsOf({ ids, tokens }: WindowGroup, tokenizer: Tokenizer | undefined): string[] {
  if (!tokenizer) return Array.from(ids, (id) => `‹${id}›`)
  return Array.from({ length: ids.length / tokens }, (_, window) => {
    const stream = new TextStream(tokenizer, { skipSpecial: false })
    const texts = Array.from(ids.subarray(window * tokens, (window + 1) * tokens), (id) => stream.push(id))
    texts[tokens - 1] += stream.finish()
    return texts
  }).flat()
}

function kindsOf(texts: readonly string[], tokens: number): Pick<TokenPage, 'kinds' | 'scripts'> {
  const context = 200
  const kinds = texts.map((text, at) => {
    const start = at - (at % tokens)
    const before = texts.slice(Math.max(start, at - context), at).join('')
    return tokenKinds.indexOf(kindOf(text, before, texts.slice(at + 1, Math.min(start + tokens, at + 60)).join('')))
  })
  return { kinds, scripts: texts.map(scriptOf) }
}

function piecesOf(distributions: readonly { top: readonly number[] }[], tokenizer: Tokenizer | undefined): Record<string, string> {
  const ids = new Set(distributions.flatMap(({ top }) => top))
  return Object.fromEntries([...ids].map((id) => [id, tokenizer ? tokenizer.decode([id], { skipSpecial: false }) : `‹${id}›`]))
}

/** How many of the likeliest tokens are kept for each distribution. */
const alternatives = 5

/** One model's predictions for N tokens: losses in nats, and the likeliest tokens [N, alternatives] with their probabilities. */
interface TokenScores {
  readonly loss: Float64Array
  readonly top: Int32Array
  readonly probability: Float64Array
}

/** The same for a pruned model, with its divergence from the dense model in nats, and the change in the probability of the text's token. */
interface ComparedScores extends TokenScores {
  readonly divergence: Float64Array
  readonly change: Float64Array
}

/** Final hidden states [N, D] of the dense model and of pruned models, which share its head. */
interface Hidden {
  readonly dense: Tensor2D
  readonly subjects: readonly Tensor2D[]
}

/**
 * Compares next-token distributions row by row. `targets` [N] are the tokens of the text. Logits of all models exist for only one tile of
 * rows and tokens at a time.
 */
export async function compareTokens(
  vocabulary: Pick<Vocabulary, 'size' | 'forEachHeadChunk'>,
  { dense, subjects }: Hidden,
  targets: Int32Array,
  signal: AbortSignal,
): Promise<{ dense: TokenScores; subjects: ComparedScores[]; alternatives: number }> {
  const most = Math.min(alternatives, vocabulary.size)
  const all = [dense, ...subjects]
  const sums = all.map(() => new RunningScores(targets.length, most))
  await vocabulary.forEachHeadChunk(async (chunk) => {
    for (const [index, hidden] of all.entries()) addTargetLogits((sums[index] as RunningScores).chosen, hidden, targets, chunk)
    for (const tile of tilesOf(targets.length, chunk.weight.shape[0])) {
      signal.throwIfAborted()
      tidy(() => compareTile(all, sums, chunk, tile))
      await breathe()
    }
  })
  const [own, ...others] = sums.map((one) => one.finish()) as [TokenScores & { divergence: Float64Array }, ...ComparedScores[]]
  requireFinite(own.loss, 'The likelihood of the text under the dense model')
  for (const { divergence } of others) requireFinite(divergence, 'The divergence from the dense model')
  const changed = others.map((one) => ({
    ...one,
    change: one.loss.map((loss, row) => Math.exp(-loss) - Math.exp(-at(own.loss, row))),
  }))
  return { dense: own, subjects: changed, alternatives: most }
}

function compareTile(all: readonly Tensor2D[], sums: readonly RunningScores[], chunk: HeadChunk, tile: Tile): void {
  const head = headOf(chunk, tile)
  let dense: Tensor2D | undefined
  for (const [index, hidden] of all.entries()) {
    const logits = headLogits(slice(hidden, [tile.firstRow, 0], [tile.rows, -1]), head)
    dense ??= logits
    sums[index]?.add(compareLogits(dense, logits, sums[index].most), tile.firstRow, head.first)
    if (logits !== dense) logits.dispose()
  }
}

/** Running scores of N rows, over the entries of the vocabulary added so far. */
class RunningScores {
  readonly most: number
  /** Logits of the tokens of the text, written by the caller. */
  readonly chosen: Float64Array
  readonly #denseLog: Float64Array
  readonly #ownLog: Float64Array
  readonly #shift: Float64Array
  readonly #highest: Float64Array
  readonly #top: Int32Array

  constructor(rows: number, most: number) {
    const nothing = () => new Float64Array(rows).fill(Number.NEGATIVE_INFINITY)
    this.most = most
    this.chosen = new Float64Array(rows)
    this.#denseLog = nothing()
    this.#ownLog = nothing()
    this.#shift = new Float64Array(rows)
    this.#highest = new Float64Array(rows * most).fill(Number.NEGATIVE_INFINITY)
    this.#top = new Int32Array(rows * most)
  }

  /** Adds the logits of one tile, whose first row is `firstRow` and whose first token is `firstToken`. */
  add({ denseLog, ownLog, shift, count, highest, columns }: ComparedLogits, firstRow: number, firstToken: number): void {
    for (let at = 0; at < ownLog.length; at++) {
      const row = firstRow + at
      const [before, own] = [this.#denseLog[row] as number, denseLog[at] as number]
      const both = addLogs(before, own)
      this.#shift[row] = Math.exp(before - both) * (this.#shift[row] as number) + Math.exp(own - both) * (shift[at] as number)
      this.#denseLog[row] = both
      this.#ownLog[row] = addLogs(this.#ownLog[row] as number, ownLog[at] as number)
      for (let place = at * count; place < (at + 1) * count; place++) {
        if (!this.#insert(row, highest[place] as number, firstToken + (columns[place] as number))) break
      }
    }
  }

  /** Inserts a token among the likeliest of its row, after tokens with an equal logit. Returns whether there was room. */
  #insert(row: number, logit: number, token: number): boolean {
    const first = row * this.most
    let at = first + this.most
    while (at > first && logit > (this.#highest[at - 1] as number)) at--
    if (at === first + this.most) return false
    this.#highest.copyWithin(at + 1, at, first + this.most - 1)
    this.#top.copyWithin(at + 1, at, first + this.most - 1)
    this.#highest[at] = logit
    this.#top[at] = token
    return true
  }

  /**
   * The divergence is sum p (a - b) + log sum exp b - log sum exp a, for logits a of the dense model and b of this one, and p the dense
   * distribution. By Gibbs' inequality, anything below zero is rounding.
   */
  finish(): TokenScores & { divergence: Float64Array } {
    return {
      loss: this.#ownLog.map((log, row) => log - (this.chosen[row] as number)),
      top: this.#top,
      probability: this.#highest.map((logit, i) => Math.exp(logit - (this.#ownLog[Math.floor(i / this.most)] as number))),
      divergence: this.#shift.map((shift, row) => Math.max(0, shift + (this.#ownLog[row] as number) - (this.#denseLog[row] as number))),
    }
  }
}

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
async function passSideBySide(
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
