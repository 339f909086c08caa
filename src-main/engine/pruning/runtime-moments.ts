import { backend, type Tensor, type Tensor2D } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'

/** What of tfjs-node's backend runs operations on types that tfjs-core does not know. */
interface Runtime {
  getInputTensorIds(tensors: readonly Tensor[]): number[]
  readonly binding: {
    readonly TF_ATTR_TYPE: number
    readonly TF_ATTR_BOOL: number
    executeOp(name: string, attributes: readonly object[], inputs: readonly number[], outputs: number): { readonly id: number }[]
    tensorDataSync(id: number): Float32Array
    deleteTensor(id: number): void
  }
}

const [float32, double] = [1, 2]

/** Whether the runtime sums and solves in float64. */
export const hasRuntimeMoments = (): boolean => activeBackend().name.startsWith('tensorflow')

/** A sum of x'x in float64 and its eigenvectors, both by TensorFlow: all stays in the runtime, whose handles `dispose` gives back. */
export class RuntimeMoments {
  readonly #runtime = backend() as unknown as Runtime
  #sum: number | undefined

  /** Adds x'x, x being [rows, D]. */
  add(x: Tensor2D): void {
    const [rows = 0] = this.#runtime.getInputTensorIds([x])
    const wide = this.#cast(rows, float32, double)
    const product = this.#run(
      'MatMul',
      [this.#type('T', double), this.#flag('transpose_a', true), this.#flag('transpose_b', false)],
      wide,
      wide,
    )
    this.#free(wide)
    if (this.#sum === undefined) this.#sum = product
    else {
      const before = this.#sum
      this.#sum = this.#run('AddV2', [this.#type('T', double)], before, product)
      this.#free(before, product)
    }
  }

  /** Eigenvectors as columns, by ascending eigenvalue: [D, D]. */
  eigenvectors(): Float32Array {
    if (this.#sum === undefined) throw new Error('Nothing was added.')
    const { binding } = this.#runtime
    const attributes = [this.#flag('compute_v', true), this.#type('T', double)]
    const [values, vectors] = binding.executeOp('SelfAdjointEigV2', attributes, [this.#sum], 2).map(({ id }) => id) as [number, number]
    const narrow = this.#cast(vectors, double, float32)
    try {
      return binding.tensorDataSync(narrow)
    } finally {
      this.#free(values, vectors, narrow)
    }
  }

  dispose(): void {
    if (this.#sum !== undefined) this.#free(this.#sum)
    this.#sum = undefined
  }

  #cast(id: number, from: number, to: number): number {
    return this.#run('Cast', [this.#type('SrcT', from), this.#type('DstT', to), this.#flag('Truncate', false)], id)
  }

  #run(name: string, attributes: readonly object[], ...inputs: number[]): number {
    return (this.#runtime.binding.executeOp(name, attributes, inputs, 1)[0] as { readonly id: number }).id
  }

  #free(...ids: number[]): void {
    for (const id of ids) this.#runtime.binding.deleteTensor(id)
  }

  #type(name: string, value: number): object {
    return { name, type: this.#runtime.binding.TF_ATTR_TYPE, value }
  }

  #flag(name: string, value: boolean): object {
    return { name, type: this.#runtime.binding.TF_ATTR_BOOL, value }
  }
}
