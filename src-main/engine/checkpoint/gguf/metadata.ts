import { describe } from '../json.ts'
import type { GgufValue } from './cursor.ts'

/** Reads metadata keys of one architecture. Throws an Error that names the key if it is missing or has the wrong type. */
export class Metadata {
  readonly architecture: string
  readonly #values: ReadonlyMap<string, GgufValue>

  constructor(values: ReadonlyMap<string, GgufValue>) {
    this.#values = values
    const architecture = values.get('general.architecture')
    if (typeof architecture !== 'string') throw new Error('it has no text "general.architecture"')
    this.architecture = architecture
  }

  has(key: string): boolean {
    return this.#values.has(`${this.architecture}.${key}`)
  }

  number(key: string): number {
    const value = this.optionalNumber(key)
    if (value === undefined) throw new Error(`it lacks ${this.architecture}.${key}`)
    return value
  }

  /** Reads a number that may be missing. A list with one value per block is accepted if all values are equal. */
  optionalNumber(key: string): number | undefined {
    const value = this.#values.get(`${this.architecture}.${key}`)
    if (value === undefined || typeof value === 'number') return value
    const [first] = Array.isArray(value) ? value : []
    if (Array.isArray(value) && typeof first === 'number' && value.every((other) => other === first)) return first
    throw new Error(`its ${this.architecture}.${key} is ${describe(value)}; it must be one number`)
  }

  /** Reads a list with one value per block; a single number applies to all blocks. Throws if the list does not have `count` values. */
  numbers(key: string, count: number): number[] {
    return this.#list(`${this.architecture}.${key}`, count) ?? Array.from({ length: count }, () => this.number(key))
  }

  /** The neurons of each block's MLP without added zeros, if Espalier wrote the file and added some. */
  neurons(count: number): number[] | undefined {
    return this.#list('espalier.neurons', count)
  }

  flag(key: string): boolean | undefined {
    const value = this.#values.get(`${this.architecture}.${key}`)
    return typeof value === 'boolean' ? value : undefined
  }

  /** Reads a list with one boolean per block; undefined if there is none. */
  flags(key: string, count: number): readonly boolean[] | undefined {
    const value = this.#values.get(`${this.architecture}.${key}`)
    if (!Array.isArray(value)) return undefined
    if (value.length !== count || !value.every((entry) => typeof entry === 'boolean' || entry === 0 || entry === 1))
      throw new Error(`its ${this.architecture}.${key} is ${describe(value)}; it must be ${count} booleans`)
    return value.map(Boolean)
  }

  /** Whether the model rounds the range of frequencies that YaRN blends; undefined unless Espalier stored this. */
  yarnTruncates(): boolean | undefined {
    const value = this.#values.get('espalier.yarn.truncate')
    return typeof value === 'boolean' ? value : undefined
  }

  /** Blocks in which Espalier stored zeros instead of attention. */
  zeroedAttention(): ReadonlySet<number> {
    const value = this.#values.get('espalier.zeroed.attention')
    return new Set(Array.isArray(value) ? value.filter((entry) => typeof entry === 'number') : [])
  }

  text(key: string): string | undefined {
    const value = this.#values.get(`${this.architecture}.${key}`)
    return typeof value === 'string' ? value : undefined
  }

  #list(key: string, count: number): number[] | undefined {
    const value = this.#values.get(key)
    if (!Array.isArray(value)) return undefined
    if (value.length !== count || !value.every((entry) => typeof entry === 'number' && Number.isInteger(entry) && entry >= 0))
      throw new Error(`its ${key} is ${describe(value)}; it must be ${count} whole numbers`)
    return value as number[]
  }
}
