import type { Windows } from '#engine/data/windows.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { Products } from '#engine/tensor/products.ts'
import { type Certificate, type CertifiedScores, certify, inOrder, type Look, settle } from './certify.ts'
import { addPasses, type PassCount } from './passes.ts'
import { type Recall, RecallingScorer } from './recalling-scorer.ts'
import type { Variant } from './trunk.ts'
import { type ScorerOptions, VariantScorer } from './variants.ts'

/**
 * Scores closer than this, relative to the smaller one, are decided in float32. Products of split operands are within 5e-6 of the largest
 * entry.
 */
const splitMargin = 2e-5

type RankingOptions = Omit<ScorerOptions, 'products'> | { readonly recall: Recall; readonly signal: AbortSignal }
type Scorer = VariantScorer | RecallingScorer

/** The members of `VariantRanking` that searches use. */
export type Ranking = Pick<VariantRanking, 'score' | 'scoreExactly' | 'passes' | 'dispose'>

/**
 * Scores variants as precisely as a choice needs. If the model has separate products for ranking, a first pass ranks all variants. Those
 * that could be among the best are rescored, and those that this does not separate are scored a third time.
 */
export class VariantRanking {
  readonly #scorers = new Map<Products, Scorer>()
  readonly #view: ModelView
  readonly #scorerFor: (products: Products) => Scorer

  /** With `recall`, scores are divergences, and remembered ones are not computed again. Otherwise they are losses. */
  constructor(view: ModelView, windows: Windows, options: RankingOptions) {
    this.#view = view
    this.#scorerFor = (products) =>
      'recall' in options
        ? new RecallingScorer(view, windows, options.recall, products, options.signal)
        : new VariantScorer(view, windows, { ...options, products })
  }

  #scorer(products: Products): Scorer {
    const scorer = this.#scorers.get(products) ?? this.#scorerFor(products)
    this.#scorers.set(products, scorer)
    return scorer
  }

  /** Returns the scores of variants, computed with the products that decide. */
  scoreExactly(variants: readonly Variant[], lacking?: Variant): Promise<Float64Array> {
    return this.#scorer(this.#view.model.products.deciding).score(variants, lacking)
  }

  /**
   * Returns the scores of variants, exact for the `survivors` smallest. `lacking` is what all variants lack. `earlier` are the certificates
   * of earlier rounds of this search.
   */
  async score(
    variants: readonly Variant[],
    survivors: number,
    { lacking, earlier = [] }: { lacking?: Variant; earlier?: readonly Certificate[] } = {},
  ): Promise<Pick<CertifiedScores, 'scores' | 'survivors'> & Partial<CertifiedScores>> {
    const { ranking, rescoring, deciding } = this.#view.model.products
    if (ranking === deciding) {
      const scores = await this.scoreExactly(variants, lacking)
      return { scores, survivors: inOrder(scores).slice(0, survivors) }
    }
    const look = (products: Products) => (looks: readonly Look[]) => lookBy(this.#scorer(products), variants, looks, lacking)
    const shares = sharesOf(this.#scorer(ranking))
    const looks = variants.flatMap((_, place) => shares.map((_, window) => ({ place, window })))
    const estimates = await look(ranking)(looks)
    const scores = variants.map((_, place) => estimates.slice(place * shares.length, (place + 1) * shares.length))
    const found = await certify({ scores, shares }, survivors, earlier, look(rescoring))
    return rescoring === deciding ? found : this.#settle(found, variants, lacking)
  }

  /** Scores the candidates that rescoring does not separate with the deciding products. */
  async #settle(found: CertifiedScores, variants: readonly Variant[], lacking: Variant | undefined): Promise<CertifiedScores> {
    const isEstimated = new Set(found.estimated)
    const places = [...variants.keys()].filter((place) => !isEstimated.has(place))
    const scores = await settle(found.scores, places, found.survivors.length, splitMargin, (close) =>
      this.scoreExactly(
        close.map((place) => variants[place] as Variant),
        lacking,
      ),
    )
    const eligible = new Set([...places, ...found.survivors])
    const survivors = inOrder(scores).filter((place) => eligible.has(place))
    return { ...found, scores, survivors: survivors.slice(0, found.survivors.length) }
  }

  /** Passes made so far, by all scorers. */
  get passes(): PassCount {
    return addPasses(...[...this.#scorers.values()].map(({ passes }) => passes))
  }

  dispose(): void {
    for (const scorer of this.#scorers.values()) scorer.dispose()
    this.#scorers.clear()
  }
}

/** Returns the share of each window in a score if windows can be rescored one by one. Otherwise all windows count as one. */
const sharesOf = (scorer: Scorer): readonly number[] => ('shares' in scorer ? scorer.shares : [1])

function lookBy(scorer: Scorer, variants: readonly Variant[], looks: readonly Look[], lacking: Variant | undefined): Promise<Float64Array> {
  const pairs = looks.map(({ place, window }) => ({ variant: variants[place] as Variant, window }))
  if ('look' in scorer) return scorer.look(pairs)
  return scorer.score(
    pairs.map(({ variant }) => variant),
    lacking,
  )
}
