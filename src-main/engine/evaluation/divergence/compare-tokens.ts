import { slice, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { requireFinite } from '#engine/model/finite.ts'
import { addLogs, addTargetLogits, headOf, type Tile, tilesOf } from '#engine/model/likelihood.ts'
import { breathe } from '#engine/model/walk.ts'
import { type HeadChunk, headLogits, type Vocabulary } from '#engine/model/weights/vocabulary.ts'
import { type ComparedLogits, compareLogits } from './compare-logits.ts'

/** How many of the likeliest tokens are kept for each distribution. */
export const alternatives = 5

/** One model's predictions for N tokens: losses in nats, and the likeliest tokens [N, alternatives] with their probabilities. */
export interface TokenScores {
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
