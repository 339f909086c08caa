import { EspalierError } from '#contract/errors.ts'
import type { Precision, PrecisionName } from '#contract/pruning/precision.ts'
import { type DecoderSpec, takesBf16 } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { findBf16Ops } from '#engine/tensor/composed-bf16-ops.ts'
import type { Products } from '#engine/tensor/products.ts'

/** Which kind of products a run uses for which purpose. */
export interface ProductsFor {
  /** Passes over windows whose results are used directly: norms, similarities, perplexity. */
  readonly passes: Products
  /** A first score of candidates, of which those that could win are rescored; and results that need few digits, such as importances. */
  readonly ranking: Products
  /** A more precise score of the candidates that could win. */
  readonly rescoring: Products
  /** The final score of candidates that rescoring does not separate. */
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
 * Which products a precision means on this machine. Only with matrix units (AMX) are three products of 16-bit operands faster than one
 * in float32.
 */
export function productsFor(precision: Precision): ProductsFor {
  if (precision === 'bfloat16' || activeBackend().bf16?.units === 'AMX') return productsOnUnits(precision)
  return precision === 'mixed' ? { ...allIn('float32'), ranking: 'bfloat16' } : allIn('float32')
}

/**
 * The products for results that need few digits and are never recomputed. Where 16-bit operands are float16, these are the products of
 * passes, because large activations would overflow float16.
 */
export function productsOfFewDigits({ ranking, passes }: ProductsFor): Products {
  return findBf16Ops()?.units.endsWith('float16') ? passes : ranking
}

/**
 * Which products a recovery trains with. With ggml it is float32, because 16 bits would lose small gradients on a GPU, and were not timed.
 */
export function productsForTraining(): Products {
  return !activeBackend().name.startsWith('ggml') && findBf16Ops() ? 'bfloat16' : 'float32'
}

/**
 * The precision in which a run is computed on this machine. `auto` is `mixed` if the processor has units for 16-bit operands. It is float32
 * where only a runtime has 16-bit products, because these were not timed on a GPU, and gain little with ggml on a processor. Models that
 * cannot use 16-bit operands are always computed in float32. Throws if the machine has no units for a requested precision.
 */
export function resolvePrecision(wanted: PrecisionName, spec: DecoderSpec): Precision {
  if (!takesBf16(spec)) return 'float32'
  if (wanted === 'auto') return activeBackend().bf16 ? 'mixed' : 'float32'
  if (wanted === 'float32' || findBf16Ops()) return wanted
  throw new EspalierError(
    'infeasible',
    `Precision ${wanted} needs a processor with AMX or AVX-512 BF16 and the fused operations that setup compiles for it, an NVIDIA GPU of compute capability 7.0 or later under TensorFlow, or ggml on a device whose 16-bit products pass a check; ${activeBackend().title} computes in float32 only. Choose float32 or auto.`,
  )
}
