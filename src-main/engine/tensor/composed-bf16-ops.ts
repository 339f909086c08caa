import { add, concat, exp, max, mul, slice, sub, sum, type Tensor1D, type Tensor2D, tidy, transpose } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type {
  Bf16Ops,
  Bf16Units,
  NativeBf16Ops,
  NormBefore,
  PackedMatrix,
  PackedMlp,
  PackedNeurons,
  ProductOptions,
  RowParts,
  RuntimeProducts,
} from '#engine/backend/bf16-ops.ts'
import { activate, capValues, gateNeurons } from './activation.ts'
import { normalize } from './norm.ts'

/** The maximum number of logits in memory at once. */
const logitsAtOnce = 2 ** 24

/**
 * Operations on 16-bit operands, built from a runtime's own products for devices that our operations do not support. Everything between the
 * products is computed in float32 by the functions of this folder.
 */
export class ComposedBf16Ops implements Bf16Ops {
  readonly units: Bf16Units
  readonly products: RuntimeProducts

  constructor(products: RuntimeProducts) {
    this.units = products.units
    this.products = products
  }

  isExact(): boolean {
    return false
  }

  /** Throws if rows would have to be split. */
  pack(weight: Tensor2D, parts: RowParts, transposed = false): PackedMatrix {
    if (parts !== 1) throw new Error(`${this.units} cannot multiply split operands.`)
    const stored: Tensor2D = transposed ? transpose(weight) : weight
    const [rows, columns] = stored.shape
    const values = this.products.pack(stored)
    if (transposed) stored.dispose()
    return { values, rows, columns, parts }
  }

  correlate(a: Tensor2D, b: Tensor2D): Tensor2D {
    return tidy(() => this.product(transpose(a), this.pack(b, 1, true)))
  }

  product(x: Tensor2D, weight: PackedMatrix, { norm, bias, add: onto, scale = 1 }: ProductOptions = {}): Tensor2D {
    return tidy(() => {
      const product = this.#multiply(normed(x, norm), weight, bias)
      const scaled: Tensor2D = scale === 1 ? product : mul(product, scale)
      return onto ? add(scaled, onto) : scaled
    })
  }

  mlp(x: Tensor2D, source: Tensor2D, part: PackedMlp): Tensor2D {
    return tidy(() => this.product(this.neurons(source, part), part.down, { bias: part.downBias, add: x, scale: part.scale }))
  }

  neurons(source: Tensor2D, { norm, activation, gate, gateBias, up, upBias }: PackedNeurons): Tensor2D {
    return tidy(() => {
      const input = normed(source, norm)
      const ups = this.#multiply(input, up, upBias)
      return gate ? gateNeurons(this.#multiply(input, gate, gateBias), ups, activation) : activate(ups, activation)
    })
  }

  exponents(x: Tensor2D, head: PackedMatrix, bias: Tensor1D | undefined, cap: number | undefined): Tensor2D {
    const step = Math.max(1, Math.floor(logitsAtOnce / head.rows))
    return tidy(() => {
      const pairs: Tensor2D[] = []
      for (let row = 0; row < x.shape[0]; row += step) {
        pairs.push(tidy(() => this.#exponentsOf(slice(x, [row, 0], [Math.min(step, x.shape[0] - row), -1]), head, bias, cap)))
      }
      return pairs.length === 1 ? (pairs[0] as Tensor2D) : concat(pairs, 0)
    })
  }

  #exponentsOf(x: Tensor2D, head: PackedMatrix, bias: Tensor1D | undefined, cap: number | undefined): Tensor2D {
    const logits = capValues(this.#multiply(x, head, bias), cap)
    const highest = max<Tensor2D>(logits, 1, true)
    const sums = sum<Tensor2D>(exp(sub(logits, highest)), 1, true)
    return concat([highest, sums], 1)
  }

  /** Multiplies x [N, columns] by a packed weight and adds bias [rows]. Returns [N, rows]. Throws if the sizes do not fit. */
  #multiply(x: Tensor2D, weight: PackedMatrix, bias: Tensor1D | undefined): Tensor2D {
    const [rows, columns] = x.shape
    if (columns !== weight.columns) {
      throw new Error(`A matrix of ${columns} columns does not fit a packed weight of ${weight.columns} columns.`)
    }
    const product = this.products.multiply(x, weight.values, [rows, weight.rows])
    return bias ? add(product, bias) : product
  }
}

const normed = (x: Tensor2D, norm: NormBefore | undefined): Tensor2D =>
  norm
    ? normalize(x, {
        kind: norm.centred ? 'layer' : 'rms',
        epsilon: norm.epsilon,
        divisor: norm.divisor,
        ...(norm.weight ? { weight: norm.weight as Tensor1D } : {}),
        ...(norm.bias ? { bias: norm.bias as Tensor1D } : {}),
      })
    : x

let ofRuntime: ComposedBf16Ops | undefined

/**
 * The operations on 16-bit operands of this machine: ours on the processor's units, or some built from the runtime's own products.
 * Undefined if there are none.
 */
export function findBf16Ops(): NativeBf16Ops | ComposedBf16Ops | undefined {
  const { bf16, runtimeProducts } = activeBackend()
  const products = bf16 ? undefined : runtimeProducts?.()
  if (!products) return bf16
  if (ofRuntime?.products !== products) ofRuntime = new ComposedBf16Ops(products)
  return ofRuntime
}

/** The same operations. Throws if there are none, because nothing should request such products then. */
export function bf16Ops(): NativeBf16Ops | ComposedBf16Ops {
  const found = findBf16Ops()
  if (!found) throw new Error('This device has no units for 16-bit operands.')
  return found
}
