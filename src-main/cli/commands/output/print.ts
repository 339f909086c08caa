import { writeFile } from 'node:fs/promises'
import { shareText } from '#contract/comparison/cell-text.ts'
import { EspalierError } from '#contract/errors.ts'
import { secondsText } from '#contract/runs/time/seconds-text.ts'

/** Prints rows under headings in aligned columns; numbers are right-aligned. */
export function printTable(heads: readonly string[], rows: readonly (readonly (string | number | null)[])[]): void {
  const cells = rows.map((row) => row.map(show))
  const widths = heads.map((head, column) => Math.max(head.length, ...cells.map((row) => row[column]?.length ?? 0)))
  const isNumber = heads.map((_, column) => rows.some((row) => typeof row[column] === 'number'))
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => (isNumber[column] ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd()
  console.log([heads, ...cells].map(line).join('\n'))
}

export function printJson(value: unknown): void {
  console.log(jsonText(value, 2))
}

/** JSON with escapes for characters that would control the terminal, which read back as the same text. */
export function jsonText(value: unknown, indent?: number): string {
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  return JSON.stringify(value, null, indent).replaceAll(/[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, escaped)
}

function show(value: string | number | null): string {
  if (value === null) return '-'
  return typeof value === 'number' ? `${value}` : printable(value)
}

/** Replaces characters that would control the terminal by question marks, because names come from files and other machines. */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '?')
}

/** The same for text of several lines. */
export const printableLines = (text: string): string => text.split('\n').map(printable).join('\n')

export function showPercent(share: number | null): string | null {
  return share === null ? null : shareText(share)
}

export function showBytes(bytes: number): string {
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), 4)
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`
}

export function showMoment(moment: number): string {
  return new Date(moment).toISOString().slice(0, 16).replace('T', ' ')
}

export function showSeconds(seconds: number | null): string | null {
  return seconds === null ? null : secondsText(seconds)
}

/** Writes to standard output, or to a new file. Throws if the file exists. */
export async function deliver(content: string, file: string | undefined): Promise<void> {
  if (file === undefined) {
    process.stdout.write(content.endsWith('\n') ? content : `${content}\n`)
    return
  }
  await writeFile(file, content, { flag: 'wx' }).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === 'EEXIST') throw new EspalierError('conflict', `${file} exists. Choose another name or remove it.`)
    throw new EspalierError('disk', `${file} cannot be written: ${thrown.message}`)
  })
  console.error(`Wrote ${printable(file)}.`)
}
