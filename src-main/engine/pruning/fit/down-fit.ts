import { add, gather, matMul, mul, sum, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { NormalEquations } from '../repair/normal-equations.ts'

interface More {
  /**
   * The outputs A of the next attention times the neurons X, summed over rows: A'X [D, I]. Absent if the projection cannot take them over.
   */
  readonly next?: Tensor2D | undefined
  /** Null if the weights stay unchanged at every width. */
  readonly ridge?: number | null
}

/**
 * A dense down projection W [D, I] and the sums X'X [I, I] over its inputs X, from which it can be repaired for any kept neurons. Kept
 * neurons are given as ascending indices. The repaired projection should still output X W', whose products with X sum to W X'X. Owns its
 * tensors.
 */
export class DownFit {
  readonly #down: Tensor2D
  readonly #gram: Tensor2D
  /** W X'X, [D, I]. */
  readonly #cross: Tensor2D
  readonly #next: Tensor2D | undefined
  readonly #ridge: number | null

  constructor(down: Tensor2D, gram: Tensor2D, { next, ridge = null }: More = {}) {
    this.#down = down
    this.#gram = gram
    this.#cross = matMul(down, gram)
    this.#next = next
    this.#ridge = ridge
  }

  /** Whether the projection can take over the output of the next attention. */
  get takesOver(): boolean {
    return this.#next !== undefined
  }

  /** Returns the kept columns of W, unchanged: [D, K]. The caller disposes of them. */
  old(kept: readonly number[]): Tensor2D {
    return tidy(() => gather(this.#down, columnsOf(kept), 1))
  }

  /** Returns the repaired columns, [D, K], which the caller disposes of, or undefined if they stay unchanged. */
  solve(kept: readonly number[], takesOver: boolean): Tensor2D | undefined {
    if (this.#ridge === null || (kept.length === this.#down.shape[1] && !takesOver)) return undefined
    const [old, equations] = [this.old(kept), this.equations(kept, takesOver)]
    const solved = equations.solve(old, this.#ridge)
    old.dispose()
    equations.dispose()
    return solved
  }

  /**
   * Returns the equations of the kept columns, which the caller disposes of. Their `error` is NaN if the projection takes over an output.
   */
  equations(kept: readonly number[], takesOver = false): NormalEquations {
    const equations = new NormalEquations()
    tidy(() => {
      const columns = columnsOf(kept)
      const cross = takesOver ? add<Tensor2D>(this.#cross, this.#next as Tensor2D) : this.#cross
      const square = takesOver ? Number.NaN : at(sum(mul(this.#cross, this.#down)).dataSync(), 0)
      equations.addSums(gather(gather(this.#gram, columns, 0), columns, 1), gather(cross, columns, 1), square)
    })
    return equations
  }

  dispose(): void {
    for (const one of [this.#down, this.#gram, this.#cross, this.#next]) one?.dispose()
  }
}

const columnsOf = (kept: readonly number[]) => tensor1d([...kept], 'int32')
