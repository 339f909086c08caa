import { tensor1d } from '@tensorflow/tfjs-core'
import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { NamedTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Model } from '#engine/model/model.ts'
import { finalNormName, type PlanTensors, storedDtype, trainedName } from '#engine/model/views/plan-tensors.ts'
import { breathe } from '#engine/model/walk.ts'
import { readStoredPart, type StoredPart, weightsOf } from '#engine/model/weights/stored-part.ts'
import { disposePart, normOf } from '#engine/model/weights/unpack.ts'
import { blockOf, isAttention, type Part, type PartWeights, presentParts, readValues } from '#engine/model/weights/weights.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import type { Moments } from './adamw.ts'

/** A trained tensor: its float32 values, which steps change in place, and its moments. */
export interface Master extends Moments {
  readonly shape: readonly number[]
  readonly dtype: StoredPart[string]['dtype']
}

/**
 * The pruned model in training: master weights of all that is left of the block stack and of the final norm, by their names among a plan's
 * tensors, and the weights that the decoder computes with, which `refresh` makes of them. Embedding and head stay the dense model's.
 */
export class Student {
  /** With the layout that the plan leaves. */
  readonly spec: DecoderSpec
  readonly parts: readonly Part[]
  readonly masters: ReadonlyMap<string, Master>
  readonly #keys: ReadonlyMap<Part, readonly string[]>
  readonly #weights = new Map<Part, PartWeights>()
  #finalNorm: NormWeights | undefined

  private constructor(spec: DecoderSpec, keys: ReadonlyMap<Part, readonly string[]>, masters: ReadonlyMap<string, Master>) {
    this.spec = spec
    this.parts = presentParts(spec)
    this.#keys = keys
    this.masters = masters
  }

  /** Reads the weights that a plan leaves. `spec` has its layout. Without moments steps cannot change them. */
  static async open(model: Model, spec: DecoderSpec, plan: Plan, tensors: PlanTensors | undefined, moments = true): Promise<Student> {
    const masters = new Map<string, Master>()
    const keys = new Map<Part, readonly string[]>()
    for (const part of presentParts(spec)) {
      const stored = await readStoredPart(model, plan, tensors, part)
      keys.set(part, Object.keys(stored))
      for (const [key, values] of Object.entries(stored)) masters.set(trainedName(spec, part, key), masterOf(values, moments))
    }
    for (const [kind, name] of Object.entries(spec.finalNorm) as ['weight' | 'bias', string][]) {
      if (kind !== 'weight' && kind !== 'bias') continue
      const values =
        plan.finalNorm && tensors ? Float32Array.from(tensors.vector(finalNormName(kind))) : await readValues(model.checkpoint, name)
      masters.set(finalNormName(kind), masterOf({ values, shape: [values.length], dtype: storedDtype(model.checkpoint, name) }, moments))
    }
    const student = new Student(spec, keys, masters)
    await student.refresh()
    return student
  }

  /** Trained entries. */
  get size(): number {
    return [...this.masters.values()].reduce((sum, { values }) => sum + values.length, 0)
  }

  get finalNorm(): NormWeights {
    return this.#finalNorm as NormWeights
  }

  weightsOf(part: Part): PartWeights {
    return this.#weights.get(part) as PartWeights
  }

  /** Forgets the weights that are computed with, so that steps may change the masters, whose memory they share. */
  release(): void {
    for (const weights of this.#weights.values()) disposePart(weights)
    this.#weights.clear()
    this.#finalNorm?.weight?.dispose()
    this.#finalNorm?.bias?.dispose()
    this.#finalNorm = undefined
  }

  /** Makes the weights that are computed with from the masters. `pause` is called before each part and may throw. */
  async refresh(pause = breathe): Promise<void> {
    this.release()
    for (const part of this.parts) {
      await pause()
      const stored = (this.#keys.get(part) ?? []).map((key) => [key, this.#master(trainedName(this.spec, part, key))] as const)
      this.#weights.set(part, weightsOf(Object.fromEntries(stored), this.spec, part))
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

  /** The plan whose tensors `tensors` gives. */
  planFor(plan: Plan): Plan {
    const own = (block: number) =>
      this.parts.filter((part) => blockOf(part) === block).map((part) => (isAttention(part) ? 'attention' : 'mlp'))
    const blocks = plan.blocks.map(({ replaced: _, ...block }, index) => {
      const replaced = own(index)
      return replaced.length > 0 ? { ...block, replaced } : block
    })
    return { ...plan, blocks, finalNorm: 'replaced' }
  }

  /** The trained weights as a plan names them. */
  tensors(): NamedTensors {
    return this.masters
  }

  dispose(): void {
    this.release()
  }
}

function masterOf({ values, shape, dtype }: StoredPart[string], moments: boolean): Master {
  const length = moments ? values.length : 0
  return { values, shape, dtype, first: new Float32Array(length), second: new Float32Array(length) }
}
