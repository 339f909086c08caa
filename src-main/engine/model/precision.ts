import { EspalierError } from '#contract/errors.ts'
import type { Precision, PrecisionName } from '#contract/pruning/precision.ts'
import { type DecoderSpec, takesHalves } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { findHalfUnits } from '#engine/tensor/half-units.ts'
import type { Products } from '#engine/tensor/products.ts'

/** Which products a run uses for which purpose. */
export interface ProductsFor {
  /** Passes over windows whose results are used directly: norms, similarities, perplexity. */
  readonly passes: Products
  /** A first look at candidates, of which those that could win are rescored; and what needs few digits, such as importances. */
  readonly ranking: Products
  /** A closer look at those that could win. */
  readonly rescoring: Products
  /** What decides if a closer look does not separate candidates. */
  readonly deciding: Products
  /** Answers, token by token. */
  readonly answers: Products
}

const allIn = (products: Products): ProductsFor => ({
  passes: products,
  ranking: products,
  rescoring: products,
  deciding: products,
  answers: products,
})

/** Which products a precision means on a machine with matrix units. */
export function productsOnUnits(precision: Precision): ProductsFor {
  if (precision === 'bfloat16') return allIn('bfloat16')
  const exact: ProductsFor = { ...allIn('thirds'), answers: 'float32' }
  return precision === 'mixed' ? { ...exact, passes: 'split', ranking: 'bfloat16', rescoring: 'split' } : exact
}

/**
 * Which products a precision means on this machine. Three products of 16-bit operands are faster than one in float32 only with matrix
 * units.
 */
export function productsFor(precision: Precision): ProductsFor {
  if (precision === 'bfloat16' || activeBackend().halves?.units === 'AMX') return productsOnUnits(precision)
  return precision === 'mixed' ? { ...allIn('float32'), ranking: 'bfloat16' } : allIn('float32')
}

/** What is computed with few digits, and of which nothing is computed again: large activations may not overflow. */
export function productsOfFewDigits({ ranking, passes }: ProductsFor): Products {
  return findHalfUnits()?.units.endsWith('float16') ? passes : ranking
}

/** Which products a recovery trains with. In 16 bits ggml would lose small gradients on a GPU, and was not timed. */
export function productsForTraining(): Products {
  return !activeBackend().name.startsWith('ggml') && findHalfUnits() ? 'bfloat16' : 'float32'
}

/**
 * The precision that a run is computed in on this machine. `auto` is `mixed` if the processor has matrix units, and float32 where only a
 * runtime has 16-bit products: they were not timed on a GPU, and gain little with ggml on a processor. Models that take no 16-bit operands
 * are computed in float32. Throws if the machine has no units for a requested precision.
 */
export function resolvePrecision(wanted: PrecisionName, spec: DecoderSpec): Precision {
  if (!takesHalves(spec)) return 'float32'
  if (wanted === 'auto') return activeBackend().halves ? 'mixed' : 'float32'
  if (wanted === 'float32' || findHalfUnits()) return wanted
  throw new EspalierError(
    'infeasible',
    `Precision ${wanted} needs a processor with AMX or AVX-512 BF16 and the fused operations that setup compiles for it, an NVIDIA GPU of compute capability 7.0 or later under TensorFlow, or ggml on a device whose 16-bit products pass a check; ${activeBackend().title} computes in float32 only. Choose float32 or auto.`,
  )
}
