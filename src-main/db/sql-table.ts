import { EspalierError } from '#contract/errors.ts'
import type { Database, Statement } from './database.ts'

/**
 * A part of the history. Its fields are statements that are prepared once and called like functions. Arguments are bound by position, or by
 * name from one object. Lists and objects are stored as JSON. A row with one column is returned as that column's value.
 */
export abstract class Table {
  protected readonly db: Database
  readonly #updates = new Map<string, Statement>()

  constructor(db: Database) {
    this.db = db
  }

  /** Prepares a query for all rows. `read` turns each row into what callers use. */
  protected all<Given extends unknown[], Result, Row = Result>(text: string, read = asItIs<Row, Result>): (...given: Given) => Result[] {
    const statement = this.#prepare(text)
    return (...given) => (statement.all(...bound(given)) as Row[]).map((row) => read(row))
  }

  /** Prepares a query for the first row. */
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

  /** Prepares a query that has a row, such as a count, unless another call deletes it meanwhile. Then it throws `not-found`. */
  protected one<Given extends unknown[], Result, Row = Result>(text: string, read = asItIs<Row, Result>): (...given: Given) => Result {
    const first = this.first(text, read)
    return (...given) => {
      const found = first(...given)
      if (found === undefined) throw new EspalierError('not-found', 'This was deleted while it was being used. Choose something else.')
      return found
    }
  }

  /** Prepares a change. Calling it returns the number of changed rows. */
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

  /** Returns what was found by an id. Throws `not-found` if it is undefined. */
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

/** Converts a value for SQLite, which has no booleans, lists or objects: to 0 and 1, or to JSON. */
function stored(value: unknown): unknown {
  if (typeof value === 'boolean') return Number(value)
  return value !== null && typeof value === 'object' ? JSON.stringify(value) : value
}

export const fromJson = <T>(text: string): T => JSON.parse(text) as T

export const fromJsonOrNull = <T>(text: string | null): T | null => (text === null ? null : fromJson(text))

/** Returns a function that reads a row as an object, with names in camel case, and parses the columns in `json` and `flags`. */
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
