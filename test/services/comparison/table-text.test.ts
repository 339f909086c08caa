import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { probabilityText } from '#contract/comparison/cell-text.ts'
import { toCsv, toLatex, toMarkdown } from '#services/comparison/table-text.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'

test('CSV quotes, keeps full precision and disarms formulas', () => {
  const columns = [
    { label: 'name', numeric: false },
    { label: 'value', numeric: true },
  ]
  const text = toCsv({
    columns,
    rows: [
      [{ value: 'a "b", c' }, { value: 0.1 + 0.2 }],
      [{ value: '=HYPERLINK("x")' }, { value: null }],
      [{ value: '-1 day' }, { value: -1, spread: 0.5 }],
    ],
  })
  expect(text).toBe('name,value,value deviation\r\n"a ""b"", c",0.30000000000000004,\r\n"\'=HYPERLINK(""x"")",,\r\n"\'-1 day",-1,0.5\r\n')
})

test("CSV has a separate column for a result's notes", () => {
  const columns = ['method', '25 %'].map((label) => ({ label, numeric: label !== 'method' }))
  const text = toCsv({
    columns,
    rows: [
      [{ value: 'a' }, { value: 5, spread: 1, note: 'at 33.3 %' }],
      [{ value: 'b' }, { value: 6 }],
    ],
  })
  expect(text).toBe('method,25 %,25 % deviation,25 % note\r\na,5,1,at 33.3 %\r\nb,6,,\r\n')
})

test('ties are marked in every format, factors are written as such, and notes go with the table', () => {
  const columns = ['method', '25 %'].map((label) => ({ label, numeric: label !== 'method' }))
  const shared = {
    columns,
    rows: [
      [{ value: 'a' }, { value: 444, spread: 1.15, factor: true, best: true, tied: true }],
      [{ value: 'b' }, { value: 460, spread: 1.6, factor: true, best: true, tied: true }],
      [{ value: 'c' }, { value: 2000, spread: 1.1, factor: true, best: false }],
    ],
    notes: ['Bold: the best.', 'Not compared: d_1 (5 %).'],
  }
  expect(toCsv(shared)).toBe(
    'method,25 %,25 % deviation as a factor,25 % best\r\na,444,1.15,tied\r\nb,460,1.6,tied\r\nc,2000,1.1,\r\n# Bold: the best.\r\n# Not compared: d_1 (5 %).\r\n',
  )
  expect(toLatex(shared)).toContain('a & \\textbf{444 $\\times/\\div$ 1.15} \\\\')
  expect(toLatex(shared)).toContain('\\end{tabular}\n\n{\\footnotesize Bold: the best. Not compared: d\\_1 (5 \\%).}\n')
  expect(toMarkdown(shared)).toContain('| **460 ×/÷ 1.60** |\n| c | 2000 ×/÷ 1.10 |\n\nBold: the best. Not compared: d\\_1 (5 %).\n')
})

test('a caption goes with the table in every format, and intervals are columns of CSV', () => {
  const table = {
    columns: ['method', '25 %'].map((label) => ({ label, numeric: label !== 'method' })),
    rows: [[{ value: 'a' }, { value: 444, spread: 1.15, factor: true, low: 400, high: 490 }]],
    caption: 'Perplexity of m_1 on 8 windows.',
    notes: ['95 % intervals.'],
  }
  expect(toCsv(table)).toBe(
    'method,25 %,25 % deviation as a factor,25 % 95 % low,25 % 95 % high\r\na,444,1.15,400,490\r\n# Perplexity of m_1 on 8 windows.\r\n# 95 % intervals.\r\n',
  )
  const latex = toLatex(table, 'perplexity (m_1) by sparsity')
  expect(latex).toContain(
    '\\begin{table}\n\\centering\n\\caption{Perplexity of m\\_1 on 8 windows.}\n\\label{tab:perplexity-m-1-by-sparsity}\n\\begin{tabular}',
  )
  expect(latex).toContain('a & 444 [400, 490] \\\\')
  expect(latex).toContain('\\end{tabular}\n\n{\\footnotesize 95 \\% intervals.\\par}\n\\end{table}\n')
  expect(toMarkdown(table)).toContain('\n\nPerplexity of m\\_1 on 8 windows. 95 % intervals.\n')
})

test('numbers of one measure have equal decimals in every format, and those of others their own', () => {
  const table = {
    columns: ['method', '25 %', 'Reached', 'Seeds'].map((label) => ({ label, numeric: label !== 'method' })),
    rows: [
      [{ value: 'a' }, { value: 36.6, low: 32.104, high: 41.7, spread: 1.05, factor: true }, { value: 0.25 }, { value: 3 }],
      [{ value: 'b' }, { value: 125.117, note: 'at 41.7 %' }, { value: 0.4166 }, { value: 1 }],
      [{ value: 'c' }, { value: 12_345 }, { value: 0.5 }, { value: 10 }],
    ],
    alike: 'columns' as const,
  }
  expect(
    toMarkdown(table)
      .split('\n')
      .slice(2, 5)
      .map((line) => line.replaceAll('\\', '')),
  ).toEqual(['| a | 36.6 [32.1, 41.7] | 0.250 | 3 |', '| b | 125.1 (at 41.7 %) | 0.417 | 1 |', '| c | 12,345.0 | 0.500 | 10 |'])
  const turned = {
    ...table,
    columns: table.rows.map(() => ({ label: '', numeric: true })),
    rows: [[{ value: 'p' }, { value: 0.5 }, { value: 20.25 }]],
  }
  expect(toLatex({ ...turned, alike: 'rows' as const })).toContain('p & 0.500 & 20.250 ')
  expect(toLatex({ ...turned, alike: undefined })).toContain('p & 0.500 & 20.25 ')
})

test('an end of an interval that is too large to read is a power of ten', () => {
  const columns = [{ label: 'perplexity', numeric: true }]
  const rows = [[{ value: 5949.92, low: 0.0009, high: 39_585_259_893.4 }], [{ value: 620.1, low: 300, high: 1217.25 }]]
  expect(toLatex({ columns, rows, alike: 'columns' })).toContain('  5950 [0, 4.0$\\times10^{10}$] \\\\\n  620 [300, 1217] ')
  expect(toMarkdown({ columns, rows, alike: 'columns' })).toContain('5950 \\[0, 4.0e+10\\]')
})

test('LaTeX escapes names, sets the best bold and says which way is better', () => {
  const columns = [
    { label: 'name_1', numeric: false },
    { label: 'perplexity', numeric: true, better: 'lower' as const },
  ]
  const text = toLatex({ columns, rows: [[{ value: '50 % & {x}^2' }, { value: 12.3456, spread: 0.5, best: true }]] })
  expect(text).toContain('\\begin{tabular}{lr}')
  expect(text).toContain('name\\_1 & perplexity $\\downarrow$ \\\\')
  expect(text).toContain('50 \\% \\& \\{x\\}\\textasciicircum{}2 & \\textbf{12.35 $\\pm$ 0.50} \\\\')
})

test('Markdown keeps its columns whatever the names hold', () => {
  const text = toMarkdown({ columns: [{ label: 'a|b', numeric: false }], rows: [[{ value: 'x|y\nz' }]] })
  expect(text).toBe('| a\\|b |\n| --- |\n| x\\|y z |\n')
})

const mixed = {
  columns: [
    { label: 'Method & more_1', numeric: false },
    { label: 'perplexity (a_b) [100 %]', numeric: true, better: 'lower' as const },
    { label: 'speed-up', numeric: true, better: 'higher' as const },
  ],
  rows: [
    [{ value: '2SSP #1 ~ {x}^2 \\ $' }, { value: 12.3456, spread: 0.5, best: true }, { value: null }],
    [{ value: 'Dense' }, { value: 1.2e-7 }, { value: -1 }],
  ],
}

test('LaTeX has as many cells in each row as its column types name, and no sign that would be run', () => {
  const text = toLatex(mixed)
  const [, types = ''] = /\\begin\{tabular\}\{([lr]+)\}/.exec(text) ?? []
  expect(types).toBe('lrr')
  const rows = text.split('\n').filter((line) => line.endsWith('\\\\'))
  expect(rows).toHaveLength(3)
  for (const row of rows) expect(row.replaceAll('\\&', '').split('&'), row).toHaveLength(types.length)
  expect(text).toContain('Dense & 1.20$\\times10^{-7}$ & $-$1 ')
  const bare = text
    .replaceAll(/\$\\times10\^\{-7\}\$/g, '')
    .replaceAll(/\$(\\(pm|downarrow|uparrow)|-)\$/g, '')
    .replaceAll(/\\[&%$#_{}]/g, '')
  expect(bare.split('\n').slice(1).join('\n')).not.toMatch(/[%$#_]/)
})

const tex = ['pdflatex', 'tectonic', 'xelatex'].find((program) => {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})

test.skipIf(tex === undefined)('LaTeX compiles unchanged with the package that its first line names', () => {
  const folder = scratchOfTest('tex')
  const text = toLatex(mixed)
  const needed = text.split('\n')[0]?.replace(/^% /, '') ?? ''
  writeFileSync(join(folder, 'table.tex'), `\\documentclass{article}\n${needed}\n\\begin{document}\n${text}\n\\end{document}\n`)
  const flags = tex === 'tectonic' ? [] : ['-interaction=nonstopmode', '-halt-on-error']
  expect(() => execFileSync(tex ?? '', [...flags, 'table.tex'], { cwd: folder, stdio: 'ignore' })).not.toThrow()
})

test('a small p value reads the same in every format', () => {
  const table = { columns: [{ label: 'p', numeric: true }], rows: [[{ value: probabilityText(7.53e-15) }]] }
  expect(toCsv(table)).toBe('p\r\n< 0.001\r\n')
  expect(toLatex(table)).toContain('$<$ 0.001 ')
  expect(toMarkdown(table)).toMatch(/^\| (<|\\<|&lt;) 0\.001 \|$/m)
})
