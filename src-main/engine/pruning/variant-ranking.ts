import type { Windows } from '#engine/data/windows.ts'
import type { ModelView } from '#engine/model/view.ts'
import type { Products } from '#engine/tensor/products.ts'
import { type Certificate, type CertifiedScores, certify, settle } from './certify.ts'
import { addPasses, type PassCount } from './passes.ts'
import { type Recall, RecallingScorer } from './recalling-scorer.ts'
import type { Variant } from './trunk.ts'
import { type ScorerOptions, VariantScorer } from './variants.ts'

/** Scores closer than this, relative, are decided in float32: products of split operands are within 5e-6 of the largest entry. */
const splitMargin = 2e-5

type RankingOptions = Omit<ScorerOptions, 'products'> | { readonly recall: Recall; readonly signal: AbortSignal }
type Scorer = VariantScorer | RecallingScorer

/**
 * Scores variants as choices need them: where the model's products for ranking are not those for deciding, a first look ranks all, what
 * could be among the best is scored once more, and what this does not tell apart once more again.
 */
export class VariantRanking {
  readonly #scorers = new Map<Products, Scorer>()
  readonly #view: ModelView
  readonly #scorerFor: (products: Products) => Scorer

  /** With `recall`, scores are divergences, and what was scored before is not computed again. */
  constructor(view: ModelView, windows: Windows, options: RankingOptions) {
    this.#view = view
    this.#scorerFor = (products) =>
      'recall' in options
        ? new RecallingScorer(view, windows, options.recall, products, options.signal)
        : new VariantScorer(view, windows, { ...options, products })
  }

  #score(products: Products, variants: readonly Variant[], lacking: Variant | undefined): Promise<Float64Array> {
    const scorer = this.#scorers.get(products) ?? this.#scorerFor(products)
    this.#scorers.set(products, scorer)
    return scorer.score(variants, lacking)
  }

  /** Scores of variants as choices are made by. */
  scoreExactly(variants: readonly Variant[], lacking?: Variant): Promise<Float64Array> {
    return this.#score(this.#view.model.products.deciding, variants, lacking)
  }

  /** Scores of variants of which the `survivors` smallest are wanted. `lacking` is what all lack; `earlier` are this search's certificates. */
  async score(
    variants: readonly Variant[],
    survivors: number,
    { lacking, earlier = [] }: { lacking?: Variant; earlier?: readonly Certificate[] } = {},
  ): Promise<Pick<CertifiedScores, 'scores'> & Partial<CertifiedScores>> {
    const { ranking, rescoring, deciding } = this.#view.model.products
    if (ranking === deciding) return { scores: await this.scoreExactly(variants, lacking) }
    const scoreSome = (products: Products) => (places: readonly number[]) =>
      this.#score(
        products,
        places.map((place) => variants[place] as Variant),
        lacking,
      )
    const estimates = await this.#score(ranking, variants, lacking)
    const found = await certify(estimates, survivors, earlier, scoreSome(rescoring))
    if (rescoring === deciding) return found
    const isEstimated = new Set(found.estimated)
    const places = [...estimates.keys()].filter((place) => !isEstimated.has(place))
    return { ...found, scores: await settle(found.scores, places, survivors, splitMargin, scoreSome(deciding)) }
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
