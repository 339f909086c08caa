import { add, matMul, mul, type Tensor, type Tensor2D, tensor2d, tidy } from '@tensorflow/tfjs-core'
import type { TensorsToStore } from '#engine/checkpoint/stored-tensors.ts'
import { breathe } from '#engine/model/walk.ts'
import { type StoredValues, tensorOf } from '#engine/model/weights/stored-part.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { Master, Student } from './student.ts'

/** What training steps change: all weights of a student, or the factors of a change to them. */
export interface Trained {
  readonly masters: ReadonlyMap<string, Master>
  /** Trained entries. */
  readonly size: number
  /** Goes back to the values from before training, and forgets the moments. */
  restart(): Promise<void>
  /** Frees the weights for computing, so that steps may change the masters. */
  release(): void
  /** Derives the weights for computing from the masters. `pause` is called between tensors and may throw. */
  refresh(pause?: () => Promise<void>): Promise<void>
}

/** The rank of a change. */
export const rank = 16
/** The factor on a change. */
const factor = 2

/**
 * LoRA (arXiv 2106.09685): each projection W [R, C] of a student is W0 + 2 B A with B [R, 16] and A [16, C], and only A and B are trained.
 * B starts at zero. The student computes with the sums, which it makes whenever it uses a part, so its tensors and those of a plan have
 * their usual names and shapes.
 */
export class LowRank implements Trained {
  readonly masters: ReadonlyMap<string, Master>
  readonly #student: Student
  readonly #pairs = new Map<string, Pair>()

  constructor(student: Student) {
    this.#student = student
    const masters = new Map<string, Master>()
    for (const [name, { shape, dtype }] of student.masters) {
      const [rows, columns] = shape
      if (shape.length !== 2 || rows === undefined || columns === undefined) continue
      const [up, down] = [masterOf([rows, rank]), masterOf([rank, columns])]
      this.#pairs.set(name, { up, down })
      masters.set(`${name}.up`, { ...up, dtype }).set(`${name}.down`, { ...down, dtype })
    }
    this.masters = masters
    this.#draw()
    student.changeBy((name, stored) => changed(stored, this.#pairs.get(name)))
  }

  get size(): number {
    return this.masters.values().reduce((sum, { values }) => sum + values.length, 0)
  }

  async restart(): Promise<void> {
    for (const { values, first, second } of this.masters.values()) for (const numbers of [values, first, second]) numbers.fill(0)
    this.#draw()
  }

  #draw(): void {
    const random = new PythonRandom(0)
    for (const { down } of this.#pairs.values())
      for (let i = 0; i < down.values.length; i++) down.values[i] = drawNormal(random) / Math.sqrt(down.values.length / rank)
  }

  release(): void {
    this.#student.release()
  }

  refresh(pause = breathe): Promise<void> {
    return this.#student.refresh(pause)
  }

  /**
   * Returns the gradients of the factors, given that of a tensor of the student, which it disposes of. Empty if the tensor has no factors.
   */
  gradientsOf(name: string, gradient: Tensor): [string, Tensor][] {
    const pair = this.#pairs.get(name)
    try {
      if (!pair) return []
      const [byUp, byDown] = tidy(() => [
        mul(matMul(gradient as Tensor2D, matrixOf(pair.down), false, true), factor),
        mul(matMul(matrixOf(pair.up), gradient as Tensor2D, true, false), factor),
      ]) as [Tensor, Tensor]
      return [
        [`${name}.up`, byUp],
        [`${name}.down`, byDown],
      ]
    } finally {
      gradient.dispose()
    }
  }

  /** Returns the student's tensors for the given values of the factors. */
  async merged(values: ReadonlyMap<string, Float32Array>): Promise<TensorsToStore> {
    for (const [name, own] of values) this.masters.get(name)?.values.set(own)
    await this.refresh()
    return this.#student.tensors()
  }
}

interface Pair {
  readonly up: Master
  readonly down: Master
}

/** Returns W0 + 2 B A, or W0 if the tensor has no factors. */
function changed(start: StoredValues, pair: Pair | undefined): Tensor {
  if (!pair) return tensorOf(start)
  return tidy(() => add(tensorOf(start), matMul(mul(matrixOf(pair.up), factor), matrixOf(pair.down))))
}

const matrixOf = ({ values, shape }: Master): Tensor2D => tensor2d(values, shape as [number, number])

function masterOf(shape: readonly [number, number]): Master {
  const zeros = () => new Float32Array(shape[0] * shape[1])
  return { values: zeros(), shape, dtype: 'F32', first: zeros(), second: zeros() }
}

/** Draws from the standard normal distribution (Box and Muller). */
const drawNormal = (random: PythonRandom): number => Math.sqrt(-2 * Math.log(1 - random.random())) * Math.cos(2 * Math.PI * random.random())
