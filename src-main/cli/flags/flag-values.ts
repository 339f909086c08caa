import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { DataRequest } from '#contract/data/data-request.ts'
import { EspalierError } from '#contract/errors.ts'
import type { RecoveryChoice, WeightChoice } from '#contract/experiments/experiments.ts'
import { mostRecoveryMinutes } from '#contract/pruning/recovery.ts'
import { parseBudget, parseFileSize, parseKeptRows } from '#contract/runs/amount-text.ts'
import type { KeptRows } from '#contract/runs/run-request.ts'
import { ggufTypeTitles, isTextName, type MethodId, methodTitles, retirementOf, rowOptions } from '#contract/titles.ts'

/** Turns the text of a flag into its value. Throws `usage` with the flag's name, the text and what is allowed. */
export type ReadValue<T> = (text: string, name: string) => T

function refuse(name: string, text: string, allowed: string): never {
  const shown = text.length > 60 ? `${text.slice(0, 57)}...` : text
  throw new EspalierError('usage', `--${name} is "${shown}"; it must be ${allowed}. See espalier --help.`)
}

export const anyText: ReadValue<string> = (text) => text

/** A whole number from `least` to `most`. */
export function integer(least: number, most = Number.MAX_SAFE_INTEGER): ReadValue<number> {
  return (text, name) => {
    const value = Number(text)
    if (text.trim() !== '' && Number.isInteger(value) && value >= least && value <= most) return value
    return refuse(
      name,
      text,
      most < Number.MAX_SAFE_INTEGER ? `a whole number from ${least} to ${most}` : `a whole number, ${least} or more`,
    )
  }
}

/** Any finite number. The option that the flag sets checks its bounds. */
export const decimal: ReadValue<number> = (text, name) => {
  const value = Number(text)
  return text.trim() !== '' && Number.isFinite(value) ? value : refuse(name, text, 'a number')
}

/** A share of the block stack, or the reference's -1 (all possible amounts) and -2 (25, 37.5 and 50 %). */
export const share: ReadValue<number> = (text, name) => {
  const value = Number(text)
  const allowed = text.trim() !== '' && ((value >= 0 && value <= 1) || value === -1 || value === -2)
  return allowed ? value : refuse(name, text, 'a number from 0 to 1, or -1 or -2 for several amounts')
}

/** A share of the experts of a mixture. */
export const expertShare: ReadValue<number> = (text, name) => {
  const value = Number(text)
  return text.trim() !== '' && value > 0 && value <= 1 ? value : refuse(name, text, 'a number above 0, at most 1')
}

/** Whether `--option share=0.25` states REAP's amount. */
export const isExpertShare = (option: string, methods: readonly string[]): boolean => option === 'share' && methods.includes('reap')

/** Whether an option says how many rows of a vocabulary stay, so that no amount is needed. */
export const setsRows = (option: string, methods: readonly string[]): boolean =>
  rowOptions.includes(option) && methods.length > 0 && methods.every((method) => method === 'vocabulary')

const units: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }

/** Bytes, written as `250MB`, `4G` or a plain number; units are powers of 1024. */
export const byteCount: ReadValue<number> = (text, name) => {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim())
  const bytes = match ? Math.floor(Number(match[1]) * (units[(match[2] ?? '').toLowerCase()] ?? 1)) : 0
  return bytes >= 2 ** 20 ? bytes : refuse(name, text, 'a size such as 250MB or 4GB, at least 1MB')
}

/** Bytes of a file as `6GB`, `250MB` or `1.5GiB`, of mixed types as `MIXED:6GB`, or a speed as `30tok/s` or `200ms@2048`. */
export const budget: ReadValue<NonNullable<ReturnType<typeof parseBudget>>> = (text, name) =>
  parseBudget(text) ?? refuse(name, text, 'a file size such as 6GB, 1.5GiB or MIXED:6GB, or a speed such as 30tok/s or 200ms@2048')

/** A number of rows as `32000`, or a share of them as `50%`. */
export const rowCount: ReadValue<KeptRows> = (text, name) =>
  parseKeptRows(text) ?? refuse(name, text, 'a number of tokens such as 32000, or a share of them such as 50%')

/** `none`, tokens as `262144` or `256k`, or minutes as `10min`. */
export const recoveryAmount: ReadValue<RecoveryChoice> = (text, name) => {
  if (text === 'none') return text
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)\s*(k|min|minutes)?$/.exec(text.trim()) ?? []
  const value = Number(number)
  if (value > 0 && value <= mostRecoveryMinutes && unit.startsWith('min')) return { minutes: value }
  const tokens = unit.startsWith('min') ? 0 : Math.round(unit === 'k' ? 1024 * value : value)
  return tokens > 0 && Number.isSafeInteger(tokens)
    ? { tokens }
    : refuse(name, text, `none, minutes such as 10min (at most ${mostRecoveryMinutes}), or tokens such as 262144 or 256k`)
}

/** One of the listed names. */
export function oneOf<Name extends string>(names: readonly Name[]): ReadValue<Name> {
  return (text, name) => names.find((known) => known === text) ?? refuse(name, text, `one of ${names.join(', ')}`)
}

/** A key of a table of titles. */
export function keyOf<Titles extends object>(titles: Titles): ReadValue<keyof Titles & string> {
  return oneOf(Object.keys(titles) as (keyof Titles & string)[])
}

/** The name of a pruning method. */
export const methodName: ReadValue<MethodId> = (text, name) => {
  const retired = retirementOf(text)
  if (retired) throw new EspalierError('usage', `--${name}=${text}: ${retired}`)
  return keyOf(methodTitles)(text, name)
}

/** `computed`, a GGUF type, or mixed types within a size: `MIXED:900MB`. */
export const weightName: ReadValue<WeightChoice> = (text, name) => {
  const [, size] = /^MIXED:(.+)$/i.exec(text) ?? []
  const bytes = size === undefined ? undefined : parseFileSize(size)
  if (bytes !== undefined) return `MIXED:${bytes}`
  const known = ['computed', ...Object.keys(ggufTypeTitles)].find((one) => one === text)
  return (
    (known as WeightChoice | undefined) ??
    refuse(name, text, `computed, ${Object.keys(ggufTypeTitles).join(', ')}, or MIXED:SIZE such as MIXED:900MB`)
  )
}

/** `name=value`, where the value is a number, true, false, a bracketed list of these, or text. */
export const assignment: ReadValue<readonly [name: string, value: unknown]> = (text, name) => {
  const [, option, value] = /^(\w+)=(.*)$/.exec(text) ?? []
  return option === undefined || value === undefined ? refuse(name, text, 'NAME=VALUE (see espalier methods)') : [option, literal(value)]
}

function literal(text: string): unknown {
  if (/^\[.*\]$/.test(text)) return splitList(text.slice(1, -1)).map(literal)
  if (text === 'true' || text === 'false') return text === 'true'
  return text !== '' && Number.isFinite(Number(text)) ? Number(text) : text
}

/** The non-empty entries of a comma-separated list. */
export function splitList(text: string): string[] {
  return text
    .split(',')
    .map((value) => value.trim())
    .filter(Boolean)
}

/**
 * Parses the text of a flag: a path, a named text, or several of them with shares (`a.txt:0.5,b.txt:0.25,mixed:0.25`). Throws `usage` for a
 * missing file or share.
 */
export function textFlag(flag: string, text: string): Pick<DataRequest, 'source' | 'mix'> {
  const entries = text.split(',').map((entry) => /^(.+):(\d+(?:\.\d+)?)$/.exec(entry.trim()))
  if (existsSync(text) || entries.length < 2) return { source: existing(flag, text) }
  const mix = entries.map((entry, index) => {
    const [, source = '', share = ''] = entry ?? []
    if (Number(share) > 0) return { source: existing(flag, source), share: Number(share) }
    throw new EspalierError(
      'usage',
      `--${flag} is "${text}", but part ${index + 1} has no share above 0. Write every part as PATH:SHARE, such as a.txt:0.5,b.txt:0.5.`,
    )
  })
  return { source: text, mix }
}

/** Returns a named text unchanged, and a file or folder as an absolute path. Throws `usage` if there is no such path. */
export function existing(flag: string, path: string): string {
  if (isTextName(path)) return path
  if (!existsSync(path)) throw new EspalierError('usage', `--${flag} is "${path}", but there is no such file or folder.`)
  return resolve(path)
}
