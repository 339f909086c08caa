import { type Tensor, tensor1d } from '@tensorflow/tfjs-core'
import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { LateTensor, NamedTensor, TensorsToStore } from '#engine/checkpoint/stored-tensors.ts'
import type { Model } from '#engine/model/model.ts'
import { finalNormName, type PlanTensors, storedDtype, trainedName } from '#engine/model/views/plan-tensors.ts'
import { breathe } from '#engine/model/walk.ts'
import { readStoredPart, type StoredPart, type StoredValues, tensorOf, weightsFrom, weightsOf } from '#engine/model/weights/stored-part.ts'
import { disposePart, normOf } from '#engine/model/weights/unpack.ts'
import { blockOf, isAttention, type Part, type PartWeights, presentParts, readValues } from '#engine/model/weights/weights.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import { valuesOf } from '#engine/tensor/sums.ts'
import { type Moments, sumOfSquares } from './adam.ts'

/** A trained tensor: its float32 values, which steps change in place, and its moments. */
export interface Master extends Moments {
  readonly shape: readonly number[]
  readonly dtype: StoredPart[string]['dtype']
}

/**
 * What stays in memory of each trained tensor. `moments`: everything that a step needs. `values`: its values before training, because only a
 * change is trained, which is added whenever a part is used. `shapes`: nothing, because these values are read in each pass.
 */
export type KeptMasters = 'moments' | 'values' | 'shapes'

/** Returns a tensor with the trained change added. */
export type Change = (name: string, stored: StoredValues) => Tensor

/**
 * The pruned model in training. It has master weights of the remaining block stack and the final norm, under the names that a plan uses,
 * and the weights that the decoder computes with, which `refresh` derives from them. Embedding and head stay those of the dense model.
 */
export class Student {
  /** Has the layout that the plan leaves. */
  readonly spec: DecoderSpec
  readonly parts: readonly Part[]
  readonly masters: ReadonlyMap<string, Master>
  /** The root mean square of the matrices' entries before training. */
  readonly scale: number
  readonly #keys: ReadonlyMap<Part, readonly string[]>
  readonly keeps: KeptMasters
  readonly #read: (part: Part) => Promise<StoredPart>
  readonly #readNorm: () => Promise<StoredPart>
  readonly #weights = new Map<Part, PartWeights>()
  #finalNorm: NormWeights | undefined
  /** The trained change to weights that are not trained themselves. */
  #change: Change = (_, stored) => tensorOf(stored)

  private constructor(
    spec: DecoderSpec,
    keys: ReadonlyMap<Part, readonly string[]>,
    masters: ReadonlyMap<string, Master>,
    scale: number,
    keeps: KeptMasters,
    read: (part: Part) => Promise<StoredPart>,
    readNorm: () => Promise<StoredPart>,
  ) {
    this.spec = spec
    this.parts = presentParts(spec)
    this.#keys = keys
    this.masters = masters
    this.scale = scale
    this.keeps = keeps
    this.#read = read
    this.#readNorm = readNorm
  }

  /** Reads the weights that a plan leaves. `spec` has the layout that the plan leaves. */
  static async open(
    model: Model,
    spec: DecoderSpec,
    plan: Plan,
    tensors: PlanTensors | undefined,
    keeps: KeptMasters = 'moments',
  ): Promise<Student> {
    const masters = new Map<string, Master>()
    const keys = new Map<Part, readonly string[]>()
    let [squares, entries] = [0, 0]
    const read = (part: Part) => readStoredPart(model, plan, tensors, part)
    for (const part of presentParts(spec)) {
      const stored = await read(part)
      keys.set(part, Object.keys(stored))
      for (const [key, own] of Object.entries(stored)) {
        masters.set(trainedName(spec, part, key), masterOf(own, keeps))
        if (own.shape.length < 2) continue
        squares += sumOfSquares(own.values)
        entries += own.values.length
      }
    }
    const readNorm = () => readFinalNorm(model, spec, plan, tensors)
    for (const [name, own] of Object.entries(await readNorm())) masters.set(name, masterOf(own, keeps === 'shapes' ? 'values' : keeps))
    const student = new Student(spec, keys, masters, Math.sqrt(squares / Math.max(1, entries)), keeps, read, readNorm)
    await student.refresh()
    return student
  }

  /** Trained entries. */
  get size(): number {
    return [...this.masters.values()].reduce((sum, { values }) => sum + values.length, 0)
  }

  /** Reads the values from before training again, and forgets the moments. */
  async restart(): Promise<void> {
    const restore = (stored: StoredPart, nameOf: (key: string) => string) => {
      for (const [key, { values }] of Object.entries(stored)) {
        const master = this.#master(nameOf(key))
        master.values.set(values)
        master.first.fill(0)
        master.second.fill(0)
      }
    }
    for (const part of this.parts) restore(await this.#read(part), (key) => trainedName(this.spec, part, key))
    restore(await this.#readNorm(), (name) => name)
  }

  /** Sets the trained change to weights that are not trained themselves. */
  changeBy(change: Change): void {
    this.#change = change
  }

  get finalNorm(): NormWeights {
    return this.#finalNorm as NormWeights
  }

  /** Calls `compute` with the weights of a part. If only a change to them is trained, they are disposed of afterwards. */
  async withPart<T>(part: Part, compute: (weights: PartWeights) => T): Promise<T> {
    const kept = this.#weights.get(part)
    if (kept) return compute(kept)
    const weights = weightsFrom(await this.#changed(part), this.spec, part)
    try {
      return compute(weights)
    } finally {
      disposePart(weights)
    }
  }

  /** Returns functions that make the tensors of a part with the trained change added. */
  async #changed(part: Part): Promise<Record<string, () => Tensor>> {
    const stored = Object.entries(this.keeps === 'shapes' ? await this.#read(part) : this.#stored(part))
    return Object.fromEntries(stored.map(([key, own]) => [key, () => this.#change(trainedName(this.spec, part, key), own)]))
  }

  #stored(part: Part): StoredPart {
    return Object.fromEntries((this.#keys.get(part) ?? []).map((key) => [key, this.#master(trainedName(this.spec, part, key))]))
  }

  /** Frees the weights for computing, so that steps may change the masters, with which they share memory. */
  release(): void {
    for (const weights of this.#weights.values()) disposePart(weights)
    this.#weights.clear()
    this.#finalNorm?.weight?.dispose()
    this.#finalNorm?.bias?.dispose()
    this.#finalNorm = undefined
  }

  /** Derives the weights for computing from the masters. `pause` is called before each part and may throw. */
  async refresh(pause = breathe): Promise<void> {
    this.release()
    for (const part of this.keeps === 'moments' ? this.parts : []) {
      await pause()
      this.#weights.set(part, weightsOf(this.#stored(part), this.spec, part))
    }
    const vector = (kind: 'weight' | 'bias') => tensor1d(this.#master(finalNormName(kind)).values)
    const { norm, finalNorm, logitScale } = this.spec
    this.#finalNorm = normOf(norm, vector('weight'), finalNorm.bias ? vector('bias') : undefined, logitScale)
  }

  #master(name: string): Master {
    const master = this.masters.get(name)
    if (!master) throw new Error(`The student has no tensor "${name}".`)
    return master
  }

  /** Returns the plan that belongs to the tensors that `tensors` returns. */
  planFor(plan: Plan): Plan {
    const own = (block: number) =>
      this.parts.filter((part) => blockOf(part) === block).map((part) => (isAttention(part) ? 'attention' : 'mlp'))
    const blocks = plan.blocks.map(({ replaced: _, ...block }, index) => {
      const replaced = own(index)
      return replaced.length > 0 ? { ...block, replaced } : block
    })
    return { ...plan, blocks, finalNorm: 'replaced' }
  }

  /**
   * Returns the trained weights under a plan's names. Those to which a change is added are made while they are stored, each part once.
   */
  tensors(): TensorsToStore {
    if (this.keeps === 'moments') return this.masters
    const tensors = new Map<string, NamedTensor | LateTensor>(this.masters)
    let last: { readonly part: Part; readonly made: Promise<Record<string, () => Tensor>> } | undefined
    const read = async (part: Part, key: string) => {
      if (last?.part !== part) last = { part, made: this.#changed(part) }
      const make = (await last.made)[key] as () => Tensor
      return valuesOf(make)
    }
    for (const [part, keys] of this.#keys) {
      for (const key of keys) {
        const name = trainedName(this.spec, part, key)
        const { shape, dtype } = this.#master(name)
        tensors.set(name, { shape, dtype, read: () => read(part, key) })
      }
    }
    return tensors
  }

  dispose(): void {
    this.release()
  }
}

/** Reads weight and bias of the final norm as a plan leaves them, under their trained names. */
async function readFinalNorm({ checkpoint }: Model, spec: DecoderSpec, plan: Plan, tensors: PlanTensors | undefined): Promise<StoredPart> {
  const stored: Record<string, StoredPart[string]> = {}
  for (const kind of ['weight', 'bias'] as const) {
    const name = spec.finalNorm[kind]
    if (name === undefined) continue
    const values = plan.finalNorm && tensors ? Float32Array.from(tensors.vector(finalNormName(kind))) : await readValues(checkpoint, name)
    stored[finalNormName(kind)] = { values, shape: [values.length], dtype: storedDtype(checkpoint, name) }
  }
  return stored
}

function masterOf({ values, shape, dtype }: StoredPart[string], keeps: KeptMasters): Master {
  const moments = () => new Float32Array(keeps === 'moments' ? values.length : 0)
  return { values: keeps === 'shapes' ? new Float32Array(0) : values, shape, dtype, first: moments(), second: moments() }
}
