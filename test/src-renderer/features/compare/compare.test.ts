import { render } from 'svelte/server'
import { describe, expect, test } from 'vitest'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { fileSize } from '#contract/comparison/costs.ts'
import { groupOverSeeds, type SeedGroup } from '#contract/comparison/seeds.ts'
import type { WorthRow } from '#contract/comparison/worth.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import * as charts from '../../../../src-renderer/features/compare/comparison-charts.ts'
import * as lineData from '../../../../src-renderer/features/compare/comparison-lines.ts'
import * as subjectData from '../../../../src-renderer/features/compare/subjects.ts'
import WorthTable from '../../../../src-renderer/features/compare/WorthTable.svelte'

const used = (source: string, windows: number, seed: number, hash: string): UsedData => ({
  source,
  revision: null,
  sequenceLength: 256,
  windows,
  seed,
  hash,
})

const perplexityOf = (value: number, hash: string) => ({
  name: 'perplexity',
  dataset: 'test',
  value,
  best: value,
  unit: '',
  on: { hash, count: 3, sequenceLength: 256 },
  losses: [-0.2, 0, 0.2].map((own) => Math.log(value) + own + 1e-5 * own * value),
})

function run(id: string, method: string, nominal: number, perplexity: number, seed = 0): ComparedRun {
  return {
    id,
    name: id,
    method,
    model: { id: 'm', name: 'Sample' },
    lineage: { model: 'm', content: null, pruned: false },
    seed,
    nominal,
    reached: nominal,
    baseline: method === 'dense',
    calibration: method === 'dense' ? null : used('/texts/calibration.txt', 32, seed, `${seed}`.repeat(64)),
    evaluation: [used('test', 64, 0, 'e'.repeat(64))],
    parameters: { alpha: method === '2ssp' ? 1.5 : 0 },
    paired: [],
    measures: [perplexityOf(perplexity, 'e'.repeat(64))],
  } as unknown as ComparedRun
}

const dense = run('dense', 'dense', 0, 15)
const runs = [run('b', 'shortgpt', 0.5, 92), run('a', '2ssp', 0.25, 22), dense]
const subjects = subjectData.orderSubjects(runs.map((member) => subjectData.toSubject(groupOverSeeds([member])[0] as SeedGroup, 'dense')))
const titles = { method: (id: string) => id, option: (method: string, name: string) => `${method}’s ${name}` }
const columns = subjectData.runColumns(subjects)
const lines = lineData.comparisonLines(subjects, subjects[0] ?? null, columns, titles)
const perplexity = lines.find(({ kind }) => kind === 'measure')
const plain = () => ({ color: 'red', shape: 'circle' as const })
const looks = { styleOf: plain, setOf: () => 0 }

describe('table', () => {
  test('the baseline comes first and has no difference to itself', () => {
    expect(subjects.map(({ id }) => id)).toEqual(['dense', 'a', 'b'])
    expect(perplexity?.cells[0]).toMatchObject({ delta: null, best: false })
  })

  test('differences carry sign and direction, the best of the others at each sparsity is marked', () => {
    expect(perplexity?.cells[1]).toMatchObject({ delta: { text: '+47 %', better: false }, best: false })
    expect(perplexity?.cells[2]).toMatchObject({ delta: { text: '+513 %', better: false }, best: false })
    const rival = subjectData.toSubject(groupOverSeeds([run('c', 'zeros', 0.5, 460)])[0] as SeedGroup, 'dense')
    const [line] = lineData.comparisonLines([...subjects, rival], subjects[0] ?? null, columns, titles)
    expect(line?.cells.map(({ best }) => best)).toEqual([false, false, true, false])
  })

  test('a run of a model that was replaced since the baseline was computed has no difference to it', () => {
    const replaced = { ...run('c', '2ssp', 0.25, 22), fingerprint: 'f'.repeat(64) }
    const members = [{ ...dense, fingerprint: 'e'.repeat(64) }, replaced]
    const both = members.map((member) => subjectData.toSubject(groupOverSeeds([member])[0] as SeedGroup, 'dense'))
    const shown = lineData.comparisonLines(both, both[0] ?? null, columns, titles).find(({ kind }) => kind === 'measure')
    expect(shown?.cells[1]).toMatchObject({ delta: null, apart: 'Not compared with the baseline: its model was replaced in between' })
  })

  test('a perplexity of a model with another tokenizer has no difference to the baseline', () => {
    const cellOf = (hash: string) => {
      const own = run('c', '2ssp', 0.25, 22)
      const lineage = { ...own.lineage, model: 'o' }
      const other = { ...own, model: { id: 'o', name: 'Other' }, lineage, measures: [perplexityOf(22, hash)] }
      const both = [dense, other].map((member) => subjectData.toSubject(groupOverSeeds([member])[0] as SeedGroup, 'dense'))
      return lineData.comparisonLines(both, both[0] ?? null, columns, titles).find(({ kind }) => kind === 'measure')?.cells[1]
    }
    expect(cellOf('f'.repeat(64))).toMatchObject({
      text: '22',
      delta: null,
      apart: 'Not compared with the baseline: measured on other tokens',
    })
    expect(cellOf('e'.repeat(64))).toMatchObject({ delta: { text: '+47 %' } })
  })

  test('a difference within its interval over windows or seeds is noise, and each says its interval', () => {
    const groups = groupOverSeeds([dense, run('x', '2ssp', 0.5, 15), run('y', '2ssp', 0.5, 25, 1), run('z', 'shortgpt', 0.5, 80)])
    const all = groups.map((group) => subjectData.toSubject(group, 'dense'))
    const shown = lineData.comparisonLines(all, all[0] ?? null, columns, titles).find(({ kind }) => kind === 'measure')
    expect(shown?.cells.map(({ noise }) => noise?.slice(0, 12))).toEqual([undefined, 'No clear dif', undefined])
    expect(shown?.cells[2]?.interval).toMatch(/^×5\.33 \(5\.3\d to 5\.3\d\), 95 % interval over 3 windows$/)
  })

  test('lines that are equal in all runs are marked as such', () => {
    expect(lines.find(({ id }) => id === 'model')?.differs).toBe(false)
    expect(lines.find(({ id }) => id === 'parameter:alpha')?.differs).toBe(true)
  })

  test('the windows of calibration and measurement are shown, those of several seeds together', () => {
    const group = groupOverSeeds([run('x', '2ssp', 0.5, 50), run('y', '2ssp', 0.5, 70, 1)])[0] as SeedGroup
    const both = [subjectData.toSubject(groupOverSeeds([dense])[0] as SeedGroup, 'dense'), subjectData.toSubject(group, 'dense')]
    const shown = lineData.comparisonLines(both, null, columns, titles)
    const cells = (wanted: string) => shown.find(({ id }) => id === wanted)?.cells.map(({ text }) => text)
    expect(cells('calibration')).toEqual(['–', 'calibration.txt: 32 windows of 256 tokens (000000000000, 111111111111)'])
    expect(cells('evaluation')).toEqual(Array(2).fill('test: 64 windows of 256 tokens (eeeeeeeeeeee)'))
  })

  test('measures come first, then what differs; options have the titles of the forms, and files only their names', () => {
    expect(lines.map(({ kind }) => kind)).toEqual(['measure', ...Array(7).fill('fact'), 'parameter'])
    expect(lines.find(({ id }) => id === 'parameter:alpha')?.title).toBe('dense’s alpha')
    const [first] = subjects
    const own = { ...first, runs: [{ ...dense, parameters: { 'calibration.source': '/home/me/texts/own.txt' } }] } as subjectData.Subject
    const line = lineData.comparisonLines([own], null, [], titles).at(-1)
    expect([line?.title, line?.cells[0]?.text]).toEqual(['Calibration text', 'own.txt'])
  })

  test('the numbers of a column have equal decimals, as many as the narrowest interval supports', () => {
    const seeds = groupOverSeeds([run('x', '2ssp', 0.5, 21), run('y', '2ssp', 0.5, 21.2, 1), run('z', 'shortgpt', 0.5, 3000, 0)])
    const [line] = lineData.comparisonLines(
      seeds.map((group) => subjectData.toSubject(group, null)),
      null,
      columns,
      titles,
    )
    expect(line?.cells.map(({ text }) => text)).toEqual(['21.1', '3000.0'])
    expect(line?.cells[0]?.spread).toMatch(/^\[\d+\.\d, \d+\.\d\]$/)
  })

  test('a mean over seeds has its 95 % interval', () => {
    const seeds = groupOverSeeds([run('x', '2ssp', 0.5, 21), run('y', '2ssp', 0.5, 23, 1)])
    const over = seeds.map((group) => subjectData.toSubject(group, null))
    const [line] = lineData.comparisonLines(over, null, columns, titles)
    expect(line?.cells[0]).toMatchObject({ text: '22', spread: '[12, 39]' })
  })

  test('a mean over seeds too far apart for an interval has the factor of its deviation', () => {
    const seeds = groupOverSeeds([run('x', '2ssp', 0.5, 100), run('y', '2ssp', 0.5, 10_000, 1)])
    const over = seeds.map((group) => subjectData.toSubject(group, null))
    const [line] = lineData.comparisonLines(over, null, columns, titles)
    expect(line?.cells[0]?.spread).toMatch(/^×\/÷ \d+/)
  })
})

test('runs over seeds become one subject with mean and spread', () => {
  const [group] = groupOverSeeds([run('x', '2ssp', 0.5, 50), run('y', '2ssp', 0.5, 70, 1)])
  const subject = subjectData.toSubject(group as NonNullable<typeof group>, null)
  expect(subject.label).toBe('x, 2 seeds')
  expect(subject.measures.get('perplexity/test')?.mean).toBeCloseTo(Math.sqrt(50 * 70), 9)
  expect(subject.measures.get('perplexity/test')?.spread).toBeCloseTo(1.4 ** Math.SQRT1_2, 9)
})

test('points need both values; the mark’s size is a share of the largest', () => {
  const points = charts.scatterPoints(subjects.slice(1), 'reached', 'perplexity/test', 'perplexity/test', looks)
  expect(points.map(({ x, y }) => [x, y])).toEqual([
    [0.25, 22],
    [0.5, 92],
  ])
  expect(points[1]?.size).toBe(1)
  expect(charts.scatterPoints(subjects, 'reached', 'missing', '', looks)).toEqual([])
})

test('points of one line differ only in amount and seed', () => {
  const changed = (id: string, nominal: number, parameters: Record<string, number>) => ({ ...run(id, '2ssp', nominal, 20, 1), parameters })
  const all = [
    changed('a', 0.25, { alpha: 1, 'amount.sparsity': 0.25, seed: 0 }),
    changed('b', 0.5, { 'amount.sparsity': 0.5, alpha: 1, seed: 1 }),
    changed('c', 0.5, { alpha: 2, 'amount.sparsity': 0.5, seed: 0 }),
    { ...changed('d', 0.5, { alpha: 1, 'amount.sparsity': 0.5 }), model: { id: 'other', name: 'Other' } },
  ].map((member) => subjectData.toSubject(groupOverSeeds([member])[0] as SeedGroup, null))
  const [a, b, c, d] = charts.scatterPoints(all, 'reached', 'perplexity/test', '', looks).map(({ line }) => line)
  expect(b).toBe(a)
  expect(new Set([a, c, d]).size).toBe(3)
  // Neither do they join what cannot be compared.
  const apart = { styleOf: plain, setOf: (subject: subjectData.Subject) => Number(subject.id === 'b') }
  const [first, second] = charts.scatterPoints(all, 'reached', 'perplexity/test', '', apart)
  expect([first?.set, second?.set, first?.line === second?.line]).toEqual([0, 1, false])
})

test('without accuracies the bars show perplexities', () => {
  const bars = charts.taskBars(subjects, columns, plain)
  expect(bars.title).toBe('Perplexity per data set')
  expect(bars.groups[0]?.bars.map(({ value }) => value)).toEqual([15, 22, 92])
  expect(bars.errors).toBe('')
  // Bars of other windows share no group.
  const shape = { hash: 'other', count: 2, sequenceLength: 64 }
  const elsewhere = subjects.map((subject, at) => {
    const runs = subject.runs.map((one) => ({ ...one, measures: one.measures.map((own) => ({ ...own, on: { ...shape, count: 2 + at } })) }))
    return { ...subject, runs } as subjectData.Subject
  })
  expect(charts.taskBars(elsewhere, columns, plain).groups.map(({ title, bars: own }) => [title, own.length])).toEqual([
    ['test, on 2 windows of 64 tokens', 1],
    ['test, on 3 windows of 64 tokens', 1],
    ['test, on 4 windows of 64 tokens', 1],
  ])
  const [seeds] = groupOverSeeds([run('x', '2ssp', 0.5, 50), run('y', '2ssp', 0.5, 70, 1)])
  const mixed = [...subjects, subjectData.toSubject(seeds as SeedGroup, null)]
  expect(charts.taskBars(mixed, columns, plain).errors).toBe('Lines: one deviation over seeds, as a factor')
})

test('the table of Worth it says which share of answers loops, if that is known for a file', () => {
  const row = (name: string, loops: number | null) =>
    ({
      name,
      runs: [name],
      pruned: true,
      cost: { mean: 8e7, error: null, factor: false },
      quality: {},
      bits: {},
      loops,
    }) as unknown as WorthRow
  const textsOf = (...rows: WorthRow[]) => {
    const worth = { rows, duels: [], fronts: [], answer: 'unknown' as const, parts: [], untested: [], file: null }
    const { body } = render(WorthTable, { props: { worth, cost: fileSize } })
    return [...body.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/gs)].map(([, text = '']) => text.replace(/<.*?>/gs, '').trim())
  }
  expect(textsOf(row('one', 0.25), row('other', null))).toEqual([
    ...['File', 'File size', 'Loops', 'Against', 'Result'],
    ...['one', '80 MB', '25 %', '–', '–'],
    ...['other', '80 MB', '–', '–', '–'],
  ])
  expect(textsOf(row('one', null))).not.toContain('Loops')
})
