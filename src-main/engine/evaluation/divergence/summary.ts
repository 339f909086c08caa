import { at } from '#contract/at.ts'
import { covarianceOfMeans, type Estimate, meanAndError, quantileWithError, shareAndError } from '#contract/comparison/statistics.ts'
import type {
  BlockDistance,
  Distance,
  Divergence,
  DivergenceOfRun,
  InspectedRun,
  TokenGroup,
  TokenPage,
  WorstToken,
} from '#contract/inspection/divergence.ts'
import { tokenKinds } from './token-kinds.ts'

/** Number of groups that a window's positions are divided into. */
const stretches = 8
/** How many of the worst places are kept per run. */
const mostWorst = 100

/** One token: where it is, and which groups it belongs to. */
interface Place {
  readonly page: number
  readonly at: number
  readonly groups: readonly [kind: string, script: string, position: string]
}

/** Summarises pages of tokens: llama.cpp's numbers, groups of tokens, damage by block, worst places. */
export function summarize(pages: readonly TokenPage[], runs: readonly InspectedRun[]): Omit<Divergence, 'data'> {
  const places = pages.flatMap(placesOf)
  const dense = places.map(({ page, at: place }) => at(at(pages, page).dense.loss, place))
  return {
    tokens: places.length,
    pages: pages.map(({ texts }) => texts.length),
    dense: { perplexity: exponential(meanAndError(dense)) },
    runs: runs.map((run, index) => summarizeRun(pages, places, dense, { run, index })),
  }
}

/** All tokens that have a prediction. */
function placesOf({ page, windows, kinds, scripts }: TokenPage): Place[] {
  let start = 0
  return windows.flatMap(({ tokens }) => {
    const first = start
    start += tokens
    return Array.from({ length: tokens - 1 }, (_, i): Place => {
      const place = first + i + 1
      const stretch = Math.min(stretches - 1, Math.floor(((i + 1) * stretches) / tokens))
      return { page, at: place, groups: [at(tokenKinds, at(kinds, place)), at(scripts, place), `${stretch + 1} of ${stretches}`] }
    })
  })
}

function summarizeRun(
  pages: readonly TokenPage[],
  places: readonly Place[],
  dense: readonly number[],
  { run, index }: { run: InspectedRun; index: number },
): DivergenceOfRun {
  const column = (name: 'divergence' | 'change' | 'loss') =>
    places.map(({ page, at: place }) => at(at(at(pages, page).runs, index)[name], place))
  const [divergence, change, loss] = [column('divergence'), column('change'), column('loss')]
  const same = places.map(({ page, at }) => {
    const { alternatives = 1, dense: own, runs = [] } = pages[page] ?? {}
    return own?.top[at * alternatives] === runs[index]?.top[at * alternatives]
  })
  return {
    run,
    numbers: numbersOf({ divergence, change, loss, same, dense }),
    groups: groupsOf(places, { divergence, same, lossChange: loss.map((value, i) => value - at(dense, i)) }),
    blocks: blocksOf(pages, index),
    worst: worstOf(pages, places, divergence, index),
  }
}

interface Columns {
  readonly divergence: readonly number[]
  readonly change: readonly number[]
  readonly loss: readonly number[]
  readonly same: readonly boolean[]
  readonly dense: readonly number[]
}

/**
 * Computes the numbers of llama.cpp's `kl_divergence` (tools/perplexity/perplexity.cpp), and the errors of quantiles, which llama.cpp does
 * not report.
 */
function numbersOf({ divergence, change, loss, same, dense }: Columns): DivergenceOfRun['numbers'] {
  const sorted = Float64Array.from(divergence).sort()
  const squares = meanAndError(change.map((value) => value ** 2))
  const rms = Math.sqrt(squares.value)
  return {
    mean: meanAndError(divergence),
    median: quantileWithError(sorted, 0.5),
    p90: quantileWithError(sorted, 0.9),
    p95: quantileWithError(sorted, 0.95),
    p99: quantileWithError(sorted, 0.99),
    p999: quantileWithError(sorted, 0.999),
    largest: sorted.at(-1) ?? 0,
    sameTop: shareAndError(same.filter(Boolean).length, same.length),
    changeMean: meanAndError(change),
    changeRms: { value: rms, error: squares.error === null || rms === 0 ? squares.error : (0.5 / rms) * squares.error },
    perplexity: exponential(meanAndError(loss)),
    perplexityRatio: ratioOf(loss, dense),
  }
}

/** exp of a mean, with the mean's error propagated. */
function exponential({ value, error }: Estimate): Estimate {
  return { value: Math.exp(value), error: error === null ? null : Math.exp(value) * error }
}

/** The ratio of two perplexities on the same tokens. The two are correlated, so their covariance is subtracted in the error. */
function ratioOf(loss: readonly number[], dense: readonly number[]): Estimate {
  const [own, other] = [meanAndError(loss), meanAndError(dense)]
  const ratio = Math.exp(own.value - other.value)
  if (own.error === null || other.error === null) return { value: ratio, error: null }
  const variance = own.error ** 2 + other.error ** 2 - 2 * covarianceOfMeans(loss, dense)
  return { value: ratio, error: ratio * Math.sqrt(Math.max(0, variance)) }
}

function groupsOf(
  places: readonly Place[],
  columns: { divergence: readonly number[]; same: readonly boolean[]; lossChange: readonly number[] },
): TokenGroup[] {
  return (['kind', 'script', 'position'] as const).flatMap((by, which) => {
    const members = Map.groupBy(places.keys(), (index) => at(places, index).groups[which] ?? '')
    const order = by === 'kind' ? [...tokenKinds] : [...members.keys()].sort((a, b) => byPosition(by, a, b, members))
    return order.flatMap((group): TokenGroup[] => {
      const own = members.get(group)
      if (!own) return []
      return [
        {
          by,
          group,
          tokens: own.length,
          divergence: meanAndError(own.map((index) => at(columns.divergence, index))),
          sameTop: shareAndError(own.filter((index) => columns.same[index]).length, own.length),
          lossChange: meanAndError(own.map((index) => at(columns.lossChange, index))),
        },
      ]
    })
  })
}

/** Sorts positions in order and scripts by their number of tokens. */
function byPosition(by: TokenGroup['by'], a: string, b: string, members: ReadonlyMap<string, readonly number[]>): number {
  if (by === 'position') return a < b ? -1 : 1
  return (members.get(b)?.length ?? 0) - (members.get(a)?.length ?? 0)
}

/** Turns the sums of all pages into means over tokens. */
function blocksOf(pages: readonly TokenPage[], index: number): BlockDistance[] | null {
  const sums = pages.map(({ distances }) => distances[index] ?? null)
  if (sums.includes(null)) return null
  const tokens = pages.reduce((all, { texts }) => all + texts.length, 0)
  const mean = (pick: (block: BlockDistance) => Distance | null, block: number): Distance | null => {
    const parts = sums.map((one) => (one?.[block] ? pick(one[block]) : null))
    if (parts.some((part) => part === null)) return null
    const cosine = parts.some((part) => part?.cosine === null) ? null : parts.reduce((all, part) => all + (part?.cosine ?? 0), 0) / tokens
    return { error: parts.reduce((all, part) => all + (part?.error ?? 0), 0) / tokens, cosine }
  }
  return (sums[0] ?? []).map((_, block) => ({
    stream: mean(({ stream }) => stream, block) as Distance,
    attention: mean(({ attention }) => attention, block),
    mlp: mean(({ mlp }) => mlp, block),
  }))
}

function worstOf(pages: readonly TokenPage[], places: readonly Place[], divergence: readonly number[], index: number): WorstToken[] {
  const order = [...places.keys()].sort((a, b) => at(divergence, b) - at(divergence, a) || a - b)
  return order.slice(0, mostWorst).flatMap((place): WorstToken[] => {
    if (!(at(divergence, place) > 0)) return []
    const { page, at: token } = at(places, place)
    const found = at(pages, page)
    const run = at(found.runs, index)
    const likeliest = (top: readonly number[]) => found.pieces[at(top, token * found.alternatives)] ?? ''
    return [
      {
        page,
        at: token,
        text: at(found.texts, token),
        before: found.texts.slice(Math.max(0, token - 24), token).join(''),
        divergence: at(divergence, place),
        lossChange: at(run.loss, token) - at(found.dense.loss, token),
        expected: likeliest(found.dense.top),
        likeliest: likeliest(run.top),
      },
    ]
  })
}
