import { expect, test } from 'vitest'
import { jsonText, printable, printableLines } from '../../../src-main/cli/commands/output/print.ts'
import { toText } from '../../../src-main/cli/result-table.ts'

const hostile = 'a\u202egpj.exe\nb\u001b[2Jc'

test('text for a terminal has no character that moves the cursor or changes the direction', () => {
  expect(printable(hostile)).toBe('a?gpj.exe?b?[2Jc')
  expect(printableLines(hostile)).toBe('a?gpj.exe\nb?[2Jc')
  const table = toText({ columns: [{ label: hostile, numeric: false }], rows: [[{ value: hostile }]] })
  expect(table.split('\n')).toHaveLength(4)
  expect(table.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u)
})

test('JSON for a terminal reads back as the same text', () => {
  const written = jsonText({ name: hostile })
  expect(written).not.toMatch(/[\p{Cc}\p{Cf}]/u)
  expect(JSON.parse(written)).toEqual({ name: hostile })
})
