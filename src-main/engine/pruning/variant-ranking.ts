import type { Windows } from '#engine/data/windows.ts'
import type { ModelView } from '#engine/model/view.ts'
import { type Certificate, type CertifiedScores, certify } from './certify.ts'
import type { PassCount } from './passes.ts'
import type { Variant } from './trunk.ts'
import { type ScorerOptions, VariantScorer } from './variants.ts'

/**
 * Scores variants as choices need them: where the model's products for ranking are not those for deciding, a first look ranks all, and
 * what could be among the best is scored once more.
 */
export class VariantRanking {
  readonly #deciding: VariantScorer
  readonly #ranking: VariantScorer | undefined

  constructor(view: ModelView, windows: Windows, options: Omit<ScorerOptions, 'products'>) {
    const { ranking, deciding } = view.model.products
    this.#deciding = new VariantScorer(view, windows, { ...options, products: deciding })
    this.#ranking = ranking === deciding ? undefined : new VariantScorer(view, windows, { ...options, products: ranking })
  }

  /** Scores of variants as choices are made by. */
  scoreExactly(variants: readonly Variant[], lacking?: Variant): Promise<Float64Array> {
    return this.#deciding.score(variants, lacking)
  }

  /** Scores of variants of which the `survivors` smallest are wanted. `lacking` is what all lack; `earlier` are this search's certificates. */
  async score(
    variants: readonly Variant[],
    survivors: number,
    { lacking, earlier = [] }: { lacking?: Variant; earlier?: readonly Certificate[] } = {},
  ): Promise<Pick<CertifiedScores, 'scores'> & Partial<CertifiedScores>> {
    if (!this.#ranking) return { scores: await this.scoreExactly(variants, lacking) }
    const estimates = await this.#ranking.score(variants, lacking)
    return certify(estimates, survivors, earlier, (places) =>
      this.scoreExactly(
        places.map((place) => variants[place] as Variant),
        lacking,
      ),
    )
  }

  /** Passes made so far, by both. */
  get passes(): PassCount {
    const all = [this.#deciding, ...(this.#ranking ? [this.#ranking] : [])].map(({ passes }) => passes)
    const sum = (what: keyof PassCount) => all.reduce((total, passes) => total + passes[what], 0)
    return { attention: sum('attention'), mlp: sum('mlp'), head: sum('head') }
  }

  dispose(): void {
    this.#deciding.dispose()
    this.#ranking?.dispose()
  }
}
