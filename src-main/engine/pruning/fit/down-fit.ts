import { add, gather, matMul, mul, sum, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { makeEquations } from '../repair/make-equations.ts'
import type { NormalEquations } from '../repair/normal-equations.ts'

interface More {
  /** Sums of the next attention's outputs A times the neurons: A'X [D, I]. */
  readonly next?: Tensor2D | undefined
  readonly ridge?: number | null
}

/**
 * A dense down projection W [D, I] and the sums X'X [I, I] of its inputs, from which it is repaired for any neurons that are kept, in index order. The
 * outputs that it should still give are W X, so that their products with X are W X'X. Owns its tensors.
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

  /** Whether it can give what a removed attention behind it gave. */
  get takesOver(): boolean {
    return this.#next !== undefined
  }

  /** The columns that are kept, unchanged: [D, K]. The caller disposes of them. */
  old(kept: readonly number[]): Tensor2D {
    return tidy(() => gather(this.#down, columnsOf(kept), 1))
  }

  /** The repaired columns, [D, K], which the caller disposes of. Undefined if they stay unchanged. */
  solve(kept: readonly number[], takesOver: boolean): Tensor2D | undefined {
    if (this.#ridge === null || (kept.length === this.#down.shape[1] && !takesOver)) return undefined
    const [old, equations] = [this.old(kept), this.equations(kept, takesOver)]
    const solved = at(equations.solve(old, [this.#ridge]), 0)
    old.dispose()
    equations.dispose()
    return solved
  }

  /** The equations of the kept columns, which the caller disposes of. Their error is known without a taken over output. */
  equations(kept: readonly number[], takesOver = false): NormalEquations {
    const equations = makeEquations()
    tidy(() => {
      const columns = columnsOf(kept)
      const whole = takesOver ? add<Tensor2D>(this.#cross, this.#next as Tensor2D) : this.#cross
      const square = takesOver ? Number.NaN : at(sum(mul(this.#cross, this.#down)).dataSync(), 0)
      equations.addSums(gather(gather(this.#gram, columns, 0), columns, 1), gather(whole, columns, 1), square)
    })
    return equations
  }

  dispose(): void {
    for (const one of [this.#down, this.#gram, this.#cross, this.#next]) one?.dispose()
  }
}

const columnsOf = (kept: readonly number[]) => tensor1d([...kept], 'int32')
