import { EspalierError } from '#contract/errors.ts'
import type { Precision, PrecisionName } from '#contract/precision.ts'
import { activeBackend } from '#engine/backend/active.ts'
import type { Products } from '#engine/tensor/products.ts'

/** Which products a run uses for what. */
export interface ProductsFor {
  /** Passes over windows whose numbers are used as they are: norms, similarities, perplexity. */
  readonly passes: Products
  /** A first look at candidates, of which those that could win are scored once more. */
  readonly ranking: Products
  /** What choices are made by. */
  readonly deciding: Products
  /** Answers, token by token. */
  readonly answers: Products
}

export const productsFor: Record<Precision, ProductsFor> = {
  float32: { passes: 'float32', ranking: 'float32', deciding: 'float32', answers: 'float32' },
  mixed: { passes: 'split', ranking: 'bfloat16', deciding: 'float32', answers: 'float32' },
  bfloat16: { passes: 'bfloat16', ranking: 'bfloat16', deciding: 'bfloat16', answers: 'bfloat16' },
}

/** The precision that a run is computed in on this machine. Throws for one that it has no units for. */
export function resolvePrecision(wanted: PrecisionName): Precision {
  const halves = activeBackend().fused?.halves !== undefined
  if (wanted === 'auto') return halves ? 'mixed' : 'float32'
  if (halves || wanted === 'float32') return wanted
  throw new EspalierError(
    'infeasible',
    `Precision ${wanted} needs a processor with AMX or AVX-512 BF16 and the fused operations that set-up compiles for it; this one computes in float32 only. Choose float32 or auto.`,
  )
}
