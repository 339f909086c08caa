import { type MixedType, mixedBytes } from '../titles.ts'
import { plural } from '../words.ts'
import type { Amount, FileBudget, KeptRows, PlainAmount, SpeedBudget } from './run-request.ts'

const units: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9, ki: 2 ** 10, mi: 2 ** 20, gi: 2 ** 30 }

/** Parses `6GB`, `250 MB`, `1.5GiB` or `4096B`. Units are powers of 1000, or with an i powers of 1024. Undefined for other text. */
export function parseFileSize(text: string): number | undefined {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)\s*((?:[kmg]i?)?)b$/i.exec(text.trim()) ?? []
  const bytes = Math.floor(Number(number) * (units[unit.toLowerCase()] ?? Number.NaN) + 1e-6)
  return bytes > 0 && Number.isSafeInteger(bytes) ? bytes : undefined
}

const sizeUnit = (bytes: number): readonly [unit: string, size: number] =>
  bytes >= 1e9 ? ['GB', 1e9] : bytes >= 1e6 ? ['MB', 1e6] : ['kB', 1e3]

/** Writes a size with four digits and a unit: `94.31 MB`. */
export function fileSizeText(bytes: number): string {
  const [unit, size] = sizeUnit(bytes)
  const digits = 10 ** Math.max(0, 4 - Math.ceil(Math.log10(Math.max(1, bytes / size) + 1e-9)))
  return `${Math.round((digits * bytes) / size) / digits} ${unit}`
}

/** Whole megabytes, or tenths for a tiny model. */
export function inMegabytes(bytes: number, round: (value: number) => number): number {
  const parts = bytes < 1e7 ? 10 : 1
  return round((bytes / 1e6) * parts) / parts
}

/** Parses `30tok/s`, or `200ms@2048`: 200 milliseconds to the first token after a prompt of 2048 tokens. Undefined for other text. */
function parseSpeed(text: string): SpeedBudget | undefined {
  const [, rate, time, prompt] = /^(\d+(?:\.\d+)?)\s*tok\/s$|^(\d+(?:\.\d+)?)\s*ms@(\d+)$/i.exec(text.trim()) ?? []
  if (isPossible(Number(rate))) return { tokensPerSecond: Number(rate) }
  return isPossible(Number(time)) && Number(prompt) > 0 && Number.isSafeInteger(Number(prompt))
    ? { milliseconds: Number(time), prompt: Number(prompt) }
    : undefined
}

/** Whether a rate, or a time in milliseconds, is more than nothing and less than no machine could tell from infinity. */
const isPossible = (value: number): boolean => value >= 1e-6 && value <= 1e12

/**
 * Parses what a result must meet: a file size, `MIXED:6GB` for a file of that size in mixed types, or a speed. Undefined for other text.
 */
export function parseBudget(text: string): Pick<FileBudget, 'bytes' | 'type'> | SpeedBudget | undefined {
  const [, size = text] = /^MIXED:(.+)$/i.exec(text.trim()) ?? []
  const bytes = parseFileSize(size)
  if (bytes === undefined) return size === text ? parseSpeed(text) : undefined
  return size === text ? { bytes } : { bytes, type: `MIXED:${bytes}` }
}

/** The weight type of an amount that divides a file's bytes between what stays and its bits; undefined for others. */
export function mixedBudget(amount: Amount): MixedType | undefined {
  const type: string | undefined = 'bytes' in amount ? amount.type : undefined
  return type !== undefined && mixedBytes(type) !== undefined ? (type as MixedType) : undefined
}

/** Writes a speed as the command line reads it. */
export const speedText = (speed: SpeedBudget): string =>
  'milliseconds' in speed ? `${speed.milliseconds}ms@${speed.prompt}` : `${speed.tokensPerSecond}tok/s`

/** Whether the amount itself says how much to remove. */
export const isPlain = (amount: Amount): amount is PlainAmount => 'experts' in amount || statesSparsity(amount)

/** Whether the amount is a sparsity on every model. What others remove is known only with the model, or after the run. */
export const statesSparsity = (amount: Amount): amount is Exclude<PlainAmount, { experts: number }> =>
  'sparsity' in amount || 'blocks' in amount

/**
 * Writes an amount, with enough digits to distinguish two sparsities or sizes: `33.333 %`, `3 blocks`, `25 % of experts`, `6 GB`, `30tok/s`.
 * Run names contain it.
 */
export function amountText(amount: Amount): string {
  if ('bytes' in amount) {
    const [unit, size] = sizeUnit(amount.bytes)
    return `${amount.bytes / size} ${unit}${mixedBudget(amount) ? ' of mixed types' : ''}`
  }
  if (!isPlain(amount)) return speedText(amount)
  if ('experts' in amount) return `${percentText(amount.experts)} of experts`
  return 'sparsity' in amount ? percentText(amount.sparsity) : plural(amount.blocks, 'block')
}

/** Parses how many rows of a vocabulary stay: `32000`, `32,000` or `50%`. Undefined for other text. */
export function parseKeptRows(text: string): KeptRows | undefined {
  const [, rows, percent] = /^(\d+|\d{1,3}(?:,\d{3})+)$|^(\d+(?:\.\d+)?)\s*%$/.exec(text.trim()) ?? []
  const [count, share] = [Number(rows?.replaceAll(',', '')), Number(percent) / 100]
  if (count > 0 && Number.isSafeInteger(count)) return { rows: count }
  return share > 0 && share <= 1 ? { share } : undefined
}

/** Writes how many rows of a vocabulary stay: `32,000 tokens`, `50 % of tokens`. */
export const keptRowsText = (kept: KeptRows): string =>
  'rows' in kept ? `${kept.rows.toLocaleString('en')} ${kept.rows === 1 ? 'token' : 'tokens'}` : `${percentText(kept.share)} of tokens`

/** Writes how many rows the options of the method Vocabulary keep: `32,000 rows`, `50 % of rows`, `99.9 % coverage`. */
export function rowsText({ rows, share, coverage }: Readonly<Record<string, unknown>>): string {
  if (typeof rows === 'number') return rows === 1 ? '1 row' : `${rows.toLocaleString('en')} rows`
  if (typeof share === 'number') return `${percentText(share)} of rows`
  return typeof coverage === 'number' ? `${percentText(coverage)} coverage` : ''
}

function percentText(share: number): string {
  return `${Number((share * 100).toFixed(4))} %`
}
