import { at } from '#contract/at.ts'
import type { TokenPage } from '#contract/inspection/divergence.ts'
import type { Windows } from '#engine/data/windows.ts'
import { groupWindows, type WindowGroup } from '#engine/model/forward.ts'
import { nextTokens } from '#engine/model/likelihood.ts'
import { denseView, type ModelView } from '#engine/model/views/view.ts'
import { TextStream } from '#engine/tokenizer/text-stream.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { compareTokens, type TokenScores } from './compare-tokens.ts'
import { passSideBySide, type Subject } from './side-by-side.ts'
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
