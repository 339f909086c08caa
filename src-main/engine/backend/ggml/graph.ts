import { EspalierError } from '#contract/errors.ts'
import type { StoredType } from '../active.ts'
import { bytesOf, countOf, type GgmlDevice, type Numbers, type ValueType } from './device.ts'
import { type Address, elements, type Sizes } from './functions.ts'
import type { Place } from './memory.ts'

/** The values that one or several tensors share. They are on the device, in this process, or still to be computed. */
export interface Value {
  readonly sizes: Sizes
  readonly type: ValueType
  /** The values in this process, if they are small or whole numbers. */
  host?: Numbers
  place?: Place
  step?: Step
  /** `references` counts the tensors that hold the value, `uses` the waiting steps that will read it. */
  references: number
  uses: number
}

/** Adds the operations of a step to a graph. Receives the inputs in the requested sizes; the result must have memory of its own. */
export type Build = (inputs: readonly Address[]) => Address

interface Step {
  readonly inputs: readonly Input[]
  readonly build: Build
  /** Estimated work, in multiplications and additions. */
  readonly work: number
}

/** A value, and the sizes in which a step reads it. */
export interface Input {
  readonly value: Value
  readonly sizes: Sizes
}

/** The number of waiting steps at which they are computed: enough to make starting a graph worthwhile, few enough for it to end soon. */
const maximumSteps = 192

/** Seconds that a graph may take, estimated from the rate of earlier ones. A cancel takes effect only between graphs. */
const maximumSeconds = 0.1

/** The rate is measured only on graphs with at least this much work. */
const measuredWork = 1e8

/** The maximum number of operations in one step, so that the operations of all waiting steps fit into one graph. */
export const mostOperations = 40

/** The amount of released memory that waiting steps may hold back before they are computed. */
const maximumHeldBytes = 2 ** 28

/** Collects operations, and computes them together as one graph when a value is read. */
export class LazyGraph {
  readonly device: GgmlDevice
  #waiting: Value[] = []
  #heldBytes = 0
  #waitingWork = 0
  /** Work per second. */
  #rate = 1e10
  /** The number of graphs that were computed, and of operations in them. */
  readonly counts = { graphs: 0, operations: 0 }

  constructor(device: GgmlDevice) {
    this.device = device
  }

  /** Stores a weight on the device in its checkpoint's type. */
  storeAs(type: StoredType, bytes: Uint8Array): Value {
    const place = this.device.memory.take(bytes.byteLength)
    this.device.upload(place, bytes)
    return { sizes: [countOf(type, bytes.byteLength), 1, 1, 1], type, references: 1, uses: 0, place }
  }

  /** Stores numbers. Whole numbers, and short arrays, stay in this process until a step reads them; all others go to the device. */
  store(numbers: Numbers, sizes: Sizes): Value {
    const isWhole = numbers instanceof Int32Array
    const value: Value = { sizes, type: isWhole ? 'int32' : 'float32', references: 1, uses: 0 }
    if (isWhole || numbers.length <= 1024) value.host = numbers.slice()
    else {
      value.place = this.device.memory.take(numbers.byteLength)
      this.device.upload(value.place, numbers)
    }
    return value
  }

  /** Creates a value that `build` will compute from others. */
  defer(inputs: readonly Input[], sizes: Sizes, build: Build, work = elements(sizes), type: ValueType = 'float32'): Value {
    for (const { value } of inputs) value.uses++
    const value: Value = { sizes, type, references: 1, uses: 0, step: { inputs, build, work } }
    this.#waiting.push(value)
    this.#waitingWork += work
    if (this.#waiting.length >= maximumSteps || this.#waitingWork > maximumSeconds * this.#rate) this.compute()
    return value
  }

  /** Releases a value that no tensor holds any more. It is freed when no waiting step needs it either. */
  release(value: Value): void {
    value.references = 0
    if (value.uses === 0) this.#forget(value)
    else if (value.place) {
      this.#heldBytes += value.place.bytes
      if (this.#heldBytes > maximumHeldBytes) this.compute()
    }
  }

  read(value: Value): Numbers {
    if (value.type !== 'float32' && value.type !== 'int32') throw new TypeError('Stored weights are not read back.')
    if (value.host) return value.host.slice()
    if (value.step) this.compute()
    if (!value.place) throw new EspalierError('internal', 'These numbers were lost when the device failed. Run again.')
    return this.device.download(value.place, value.sizes)
  }

  /** Computes all waiting steps whose results a tensor still holds, and the steps that these need. */
  compute(): void {
    const waiting = this.#waiting
    this.#waiting = []
    this.#heldBytes = 0
    this.#waitingWork = 0
    const needed = neededOf(waiting)
    try {
      if (needed.size > 0) this.#run(waiting.filter((value) => needed.has(value)))
    } catch (thrown) {
      // The memory of these steps holds no valid results.
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

  /** Called when a step was computed or dropped: its inputs have one use less. */
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

/** Selects the waiting values that must be computed: those that a tensor holds, and their inputs. */
function neededOf(waiting: readonly Value[]): Set<Value> {
  const needed = new Set<Value>()
  for (const value of waiting.toReversed()) {
    if (value.references > 0) needed.add(value)
    if (needed.has(value)) for (const input of value.step?.inputs ?? []) needed.add(input.value)
  }
  return needed
}
