import { EspalierError } from '#contract/errors.ts'
import type { Database, Statement } from './database.ts'

/**
 * A part of the history. Its fields are statements that are prepared once and called like functions. Arguments go in by
 * position, or as one object by name; lists and objects are stored as JSON. A row of one column is returned as its value.
 */
export abstract class Table {
  protected readonly db: Database
  readonly #updates = new Map<string, Statement>()

  constructor(db: Database) {
    this.db = db
  }

  /** A query for all rows, each turned by `read` into what callers use. */
  protected all<Given extends unknown[], Result, Row = Result>(text: string, read = asItIs<Row, Result>): (...given: Given) => Result[] {
    const statement = this.#prepare(text)
    return (...given) => (statement.all(...bound(given)) as Row[]).map((row) => read(row))
  }

  /** A query for the first row. */
  protected first<Given extends unknown[], Result, Row = Result>(
    text: string,
    read = asItIs<Row, Result>,
  ): (...given: Given) => Result | undefined {
    const statement = this.#prepare(text)
    return (...given) => {
      const row = statement.get(...bound(given)) as Row | undefined
      return row === undefined ? undefined : read(row)
    }
  }

  /** A query that always has a row, such as a count. */
  protected one<Given extends unknown[], Result, Row = Result>(text: string, read = asItIs<Row, Result>): (...given: Given) => Result {
    const first = this.first(text, read)
    return (...given) => {
      const found = first(...given)
      if (found === undefined) throw new Error(`The history has no row for: ${text}`)
      return found
    }
  }

  /** A change. Returns the number of changed rows. */
  protected run<Given extends unknown[]>(text: string): (...given: Given) => number {
    const statement = this.db.prepare(text)
    return (...given) => statement.run(...bound(given)).changes
  }

  /** Writes the columns whose value is not undefined. */
  protected update(table: string, key: 'id' | 'number' | 'run', of: string | number, values: object): void {
    const given = Object.entries(values).filter(([, value]) => value !== undefined)
    if (given.length === 0) return
    const text = `UPDATE ${table} SET ${given.map(([column]) => `${column} = ?`).join(', ')} WHERE ${key} = ?`
    const statement = this.#updates.get(text) ?? this.db.prepare(text)
    this.#updates.set(text, statement)
    statement.run(...given.map(([, value]) => stored(value)), of)
  }

  /** What was found by an id. Throws `not-found` if it is undefined. */
  protected known<Found>(kind: string, id: string, found: Found | undefined): Found {
    if (found === undefined) throw new EspalierError('not-found', `There is no ${kind} ${id}.`)
    return found
  }

  #prepare(text: string): Statement {
    const statement = this.db.prepare(text)
    return statement.pluck(statement.columns().length === 1)
  }
}

const asItIs = <Row, Result>(row: Row): Result => row as unknown as Result

function bound(given: readonly unknown[]): unknown[] {
  const [first] = given
  if (given.length !== 1 || typeof first !== 'object' || first === null || Array.isArray(first)) return given.map(stored)
  return [Object.fromEntries(Object.entries(first).map(([name, value]) => [name, stored(value)]))]
}

/** SQLite has no booleans, lists or objects: they are stored as 0 and 1, and as JSON. */
function stored(value: unknown): unknown {
  if (typeof value === 'boolean') return Number(value)
  return value !== null && typeof value === 'object' ? JSON.stringify(value) : value
}

export const fromJson = <T>(text: string): T => JSON.parse(text) as T

export const fromJsonOrNull = <T>(text: string | null): T | null => (text === null ? null : fromJson(text))

/** Reads a row as an object: names in camel case, and the named columns from JSON or from 0 and 1. */
export function readRow<Result>(columns: { json?: readonly (keyof Result)[]; flags?: readonly (keyof Result)[] }): (row: object) => Result {
  const [json, flags] = [new Set<PropertyKey>(columns.json), new Set<PropertyKey>(columns.flags)]
  return (row) => {
    const fields = Object.entries(row).map(([column, value]) => {
      const field = column.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase())
      return [field, flags.has(field) ? value === 1 : json.has(field) ? fromJsonOrNull(value) : value]
    })
    return Object.fromEntries(fields) as Result
  }
}
