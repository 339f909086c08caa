import { EspalierError } from '#contract/errors.ts'

const shorten = (text: string): string => (text.length > 80 ? `${text.slice(0, 77)}...` : text)

/** Reads a checkpoint's config.json field by field. Every error names the field, its value and what is allowed. */
export class ConfigReader {
  readonly #config: Record<string, unknown>

  constructor(config: Record<string, unknown>) {
    this.#config = config
  }

  #value(key: string): unknown {
    return Object.hasOwn(this.#config, key) ? this.#config[key] : undefined
  }

  #fail(key: string, allowed: string): never {
    const value = this.#value(key)
    const found = value === undefined || value === null ? `has no "${key}"` : `has "${key}" = ${shorten(JSON.stringify(value))}`
    throw new EspalierError(
      'invalid',
      `config.json ${found}; it must be ${allowed}. Take the config.json that belongs to this checkpoint.`,
      { key },
    )
  }

  /** Whether a field is present and not null. */
  has(key: string): boolean {
    return this.#value(key) != null
  }

  integer(key: string, fallback?: number): number {
    const value = this.#value(key) ?? fallback
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1 || value > 2 ** 31)
      this.#fail(key, 'a whole number from 1 to 2,147,483,648')
    return value
  }

  /** A whole number that may be 0. */
  count(key: string, fallback: number): number {
    return this.#value(key) === 0 ? 0 : this.integer(key, fallback)
  }

  number(key: string, fallback?: number): number {
    const value = this.#value(key) ?? fallback
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) this.#fail(key, 'a positive number')
    return value
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.#value(key) ?? fallback
    if (typeof value !== 'boolean') this.#fail(key, 'true or false')
    return value
  }

  /** An integer that may be absent or null. */
  optionalInteger(key: string): number | undefined {
    return this.#value(key) == null ? undefined : this.integer(key)
  }

  /** A positive number that may be absent or null. */
  optionalNumber(key: string): number | undefined {
    return this.has(key) ? this.number(key) : undefined
  }

  text(key: string, fallback?: string): string {
    const value = this.#value(key) ?? fallback
    if (typeof value !== 'string') this.#fail(key, 'a string')
    return value
  }

  numbers(key: string, count: number): number[] {
    const value = this.#value(key)
    if (!Array.isArray(value) || value.length !== count || !value.every((entry) => typeof entry === 'number' && entry > 0)) {
      this.#fail(key, `a list of ${count} positive numbers`)
    }
    return value as number[]
  }

  /** A list of `count` of the allowed strings; undefined if absent or null. */
  choices<const Choice extends string>(key: string, count: number, allowed: readonly Choice[]): readonly Choice[] | undefined {
    const value = this.#value(key)
    if (value == null) return undefined
    if (!Array.isArray(value) || value.length !== count || !value.every((entry) => allowed.includes(entry as Choice))) {
      this.#fail(key, `a list of ${count} entries, each one of ${allowed.join(', ')}`)
    }
    return value as Choice[]
  }

  /** A list of block numbers; empty if absent or null. */
  places(key: string): readonly number[] {
    const value = this.#value(key)
    if (value == null) return []
    if (!Array.isArray(value) || !value.every((entry) => Number.isSafeInteger(entry) && (entry as number) >= 0)) {
      this.#fail(key, 'a list of block numbers')
    }
    return value as number[]
  }

  /** A list of at least `count` values of 0 and 1; undefined if absent or null. */
  flags(key: string, count: number): readonly boolean[] | undefined {
    const value = this.#value(key)
    if (value == null) return undefined
    if (!Array.isArray(value) || value.length < count || !value.every((entry) => entry === 0 || entry === 1)) {
      this.#fail(key, `a list of at least ${count} entries, each 0 or 1`)
    }
    return value.map((entry) => entry === 1)
  }

  /** A nested object; undefined if absent or null. */
  section(...keys: string[]): ConfigReader | undefined {
    for (const key of keys) {
      const value = this.#value(key)
      if (value == null) continue
      if (typeof value !== 'object' || Array.isArray(value)) this.#fail(key, 'an object')
      return new ConfigReader(value as Record<string, unknown>)
    }
    return undefined
  }

  /** A reader for the language model inside a model of several parts. `describe` makes its config that of a model by itself. */
  textPart(describe: (config: Record<string, unknown>) => Record<string, unknown>): ConfigReader {
    const own = this.#value('text_config')
    if (typeof own !== 'object' || own === null || Array.isArray(own)) this.#fail('text_config', 'an object')
    return new ConfigReader(describe(this.#config))
  }

  /** Throws if a field has a value that asks for something the decoder does not compute. */
  refuse(key: string, value: unknown, reason: string): void {
    if (this.#value(key) === value)
      throw new EspalierError('invalid', `config.json has "${key}" = ${JSON.stringify(value)}: ${reason}.`, { key })
  }
}
