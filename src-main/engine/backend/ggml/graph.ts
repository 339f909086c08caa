import { EspalierError } from '#contract/errors.ts'
import type { StoredType } from '../active.ts'
import { bytesOf, countOf, type GgmlDevice, type Numbers, type ValueType } from './device.ts'
import type { Address } from './functions.ts'
import type { Place } from './memory.ts'
import { elements, type Sizes } from './sizes.ts'

/** What tensors share: numbers that are on the device, in this process, or still to be computed. */
export interface Value {
  readonly sizes: Sizes
  readonly type: ValueType
  /** A copy in this process, if it is small or needed here. */
  host?: Numbers
  place?: Place
  step?: Step
  /** How many tensors hold it, and how many steps will read it. */
  references: number
  uses: number
}

/** Adds the operations of a step to a graph: from its inputs in the requested sizes to a result with its own memory. */
export type Build = (inputs: readonly Address[]) => Address

interface Step {
  readonly inputs: readonly Input[]
  readonly build: Build
  /** In multiplications and additions. */
  readonly work: number
}

/** A value in the form that a step reads. */
export interface Input {
  readonly value: Value
  readonly sizes: Sizes
}

/** The most waiting steps: enough that a graph is worth its start, few enough that it ends soon. */
const mostSteps = 192

/** Seconds that a graph may take, by the rate of earlier ones. A cancel takes effect only between graphs. */
const mostSeconds = 0.1

/** Above this much work, the time of a graph says something about the rate. */
const measuredWork = 1e8

/** The most operations of one step. The device's context has room for all of them. */
export const mostOperations = 40

/** The most memory held only by waiting steps, so that what a caller released becomes free soon. */
const mostHeldBytes = 2 ** 28

/** Collects operations and computes them as one graph when a number is needed. */
export class LazyGraph {
  readonly device: GgmlDevice
  #waiting: Value[] = []
  #heldBytes = 0
  #waitingWork = 0
  /** Work per second. */
  #rate = 1e10
  /** How many graphs were computed, and operations in them. */
  readonly counts = { graphs: 0, operations: 0 }

  constructor(device: GgmlDevice) {
    this.device = device
  }

  /** Stores a weight on the device as a checkpoint does. */
  storeAs(type: StoredType, bytes: Uint8Array): Value {
    const place = this.device.memory.take(bytes.byteLength)
    this.device.upload(place, bytes)
    return { sizes: [countOf(type, bytes.byteLength), 1, 1, 1], type, references: 1, uses: 0, place }
  }

  /** Stores numbers on the device. Small and whole ones also stay in this process. */
  store(numbers: Numbers, sizes: Sizes): Value {
    const whole = numbers instanceof Int32Array
    const value: Value = { sizes, type: whole ? 'int32' : 'float32', references: 1, uses: 0 }
    if (whole || numbers.length <= 1024) value.host = numbers.slice()
    else {
      value.place = this.device.memory.take(numbers.byteLength)
      this.device.upload(value.place, numbers)
    }
    return value
  }

  /** A value that `build` will compute from others. */
  defer(inputs: readonly Input[], sizes: Sizes, build: Build, work = elements(sizes), type: ValueType = 'float32'): Value {
    for (const { value } of inputs) value.uses++
    const value: Value = { sizes, type, references: 1, uses: 0, step: { inputs, build, work } }
    this.#waiting.push(value)
    this.#waitingWork += work
    if (this.#waiting.length >= mostSteps || this.#waitingWork > mostSeconds * this.#rate) this.compute()
    return value
  }

  /** One tensor less holds a value. It is freed when no step waits for it either. */
  release(value: Value): void {
    value.references = 0
    if (value.uses === 0) this.#forget(value)
    else if (value.place) {
      this.#heldBytes += value.place.bytes
      if (this.#heldBytes > mostHeldBytes) this.compute()
    }
  }

  read(value: Value): Numbers {
    if (value.type !== 'float32' && value.type !== 'int32') throw new TypeError('Stored weights are not read back.')
    if (value.host) return value.host.slice()
    if (value.step) this.compute()
    if (!value.place) throw new EspalierError('internal', 'These numbers were lost when the device failed. Run again.')
    return this.device.download(value.place, value.sizes)
  }

  /** Computes all steps whose results a tensor still holds, and what they need. */
  compute(): void {
    const waiting = this.#waiting
    this.#waiting = []
    this.#heldBytes = 0
    this.#waitingWork = 0
    const needed = neededOf(waiting)
    try {
      if (needed.size > 0) this.#run(waiting.filter((value) => needed.has(value)))
    } catch (thrown) {
      // Their places hold no valid results.
      for (const value of waiting) this.#forget(value)
      throw thrown
    } finally {
      for (const value of waiting) this.#finish(value)
    }
  }

  #run(values: readonly Value[]): void {
    const graph = this.device.newGraph()
    const made = new Map<Value, Address>()
    for (const value of values) {
      const { inputs, build } = value.step as Step
      const result = build(inputs.map((input) => this.#read(input, made)))
      if (value.references > 0) {
        value.place = this.device.memory.take(bytesOf(value.type, value.sizes))
        this.device.store(result, value.place)
      }
      made.set(value, this.device.operations.reshape(result, ...value.sizes))
      this.device.expand(graph, result)
    }
    const work = values.reduce((sum, { step }) => sum + (step?.work ?? 0), 0)
    this.counts.graphs++
    const start = performance.now()
    this.counts.operations += this.device.compute(graph, work / values.length)
    if (work >= measuredWork) this.#rate = work / ((performance.now() - start) / 1000)
  }

  #read({ value, sizes }: Input, made: Map<Value, Address>): Address {
    const known = made.get(value) ?? this.#leafOf(value)
    made.set(value, known)
    return value.sizes.every((size, i) => size === sizes[i]) ? known : (this.device.operations.reshape(known, ...sizes) as Address)
  }

  #leafOf(value: Value): Address {
    if (!value.place) {
      if (!value.host) throw new EspalierError('internal', 'These numbers were lost when the device failed. Run again.')
      value.place = this.device.memory.take(value.host.byteLength)
      this.device.upload(value.place, value.host)
    }
    return this.device.tensorAt(value.place, value.sizes, value.type)
  }

  /** After its graph, or without one: its inputs have one use less. */
  #finish(value: Value): void {
    for (const { value: input } of value.step?.inputs ?? []) {
      input.uses--
      if (input.references === 0 && input.uses === 0) this.#forget(input)
    }
    delete value.step
  }

  #forget(value: Value): void {
    if (value.place) this.device.memory.giveBack(value.place)
    delete value.place
    delete value.host
  }
}

/** The waiting values to compute: those that are held, and their inputs. */
function neededOf(waiting: readonly Value[]): Set<Value> {
  const needed = new Set<Value>()
  for (const value of waiting.toReversed()) {
    if (value.references > 0) needed.add(value)
    if (needed.has(value)) for (const input of value.step?.inputs ?? []) needed.add(input.value)
  }
  return needed
}
