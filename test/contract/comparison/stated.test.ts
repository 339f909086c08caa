/**
 * Everything that comparisons state (best marks, changes, noise, rivals, outcomes, vetoes, answers) against a plain recomputation from the
 * stored losses and answers, on random histories of two models of which one was replaced.
 */
import { expect, test } from 'vitest'
import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { comparedGroups, comparisonTable } from '#contract/comparison/comparison-table.ts'
import { measureColumns, measureId } from '#contract/comparison/measure-columns.ts'
import { sparsityTables } from '#contract/comparison/sparsity-table.ts'
import { uniformNumbers } from '#contract/comparison/statistics.ts'
import { worthOf } from '#contract/comparison/verdict.ts'
import { runsByModel } from '#contract/comparison/worth-runs.ts'
import { comparisonLines } from '../../../src-renderer/features/compare/comparison-lines.ts'
import { toSubject } from '../../../src-renderer/features/compare/subjects.ts'

type Draw = ReturnType<typeof uniformNumbers>

const shapes = [
  { count: 4, sequenceLength: 1024 },
  { count: 8, sequenceLength: 512 },
]
const answers = 24
/** Windows cover as many bytes for both tokenizers: 4 and 5 a token. */
const bytesPerToken = { one: 4, two: 5 }

function historyOf(draw: Draw): ComparedRun[] {
  const normal = () => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw())
  const pick = <T>(of: readonly T[]): T => of[Math.floor(draw() * of.length)] as T
  const mostly = <T>(usual: T, other: T): T => (draw() < 0.8 ? usual : other)
  // In half of the histories the other model has its own tokenizer.
  const tokenizers = { a: 'one', b: pick(['one', 'two'] as const) } as const
  const [usualShape, otherShape] = draw() < 0.5 ? [shapes[0], shapes[1]] : [shapes[1], shapes[0]]
  const effects = new Map<string, number>()
  const effect = (key: string, size: number) => {
    const known = effects.get(key) ?? size * normal()
    effects.set(key, known)
    return known
  }
  const seedSpread = pick([0.01, 0.1, 0.8])
  let clock = 0
  const runs: ComparedRun[] = []
  const files = 6 + Math.floor(draw() * 8)
  for (let file = 0; file < files; file++) {
    const model = pick(['a', 'a', 'a', 'b'] as const)
    const content = model === 'b' ? 'b1' : mostly('a2', 'a1')
    const method = pick(['dense', 'dense', '2ssp', 'shortgpt'])
    const nominal = method === 'dense' ? 0 : pick([0.25, 0.5])
    const type = pick([undefined, 'Q8_0', 'Q4_0'])
    const seeds = method === 'dense' ? 1 : 1 + Math.floor(draw() * 3)
    const shape = mostly(usualShape, otherShape)
    const [beginToken, precision] = [mostly(false, true), mostly(undefined, 'bfloat16' as const)]
    const megabytes = pick([50, 100, 101, 200])
    const loopRate = pick([0.05, 0.3, 0.9])
    for (let seed = 0; seed < seeds; seed++) {
      const { count, sequenceLength } = (draw() < 0.95 ? shape : otherShape) ?? { count: 4, sequenceLength: 1024 }
      const prompts = mostly('prompts', 'other prompts')
      const drift = method === 'dense' ? 0 : seedSpread * normal()
      const measuresOf = (dataset: string, revision: string) => {
        const tokenizer = tokenizers[model]
        const level = 3 + effect(`${content} ${method} ${nominal} ${type} ${dataset}`, 0.3) + drift
        const losses = Array.from({ length: count }, (_, window) => level + effect(`${dataset} ${window}`, 0.3) + 0.05 * normal())
        const mean = losses.reduce((sum, loss) => sum + loss, 0) / count
        const bytes = count * (sequenceLength - 1) * bytesPerToken[tokenizer]
        // The same tokens, cut otherwise.
        const hash = [tokenizer, dataset, revision, beginToken].join('/')
        const on = {
          hash,
          count,
          sequenceLength,
          text: `${dataset} ${revision}`,
          bytes,
          ...(beginToken ? { beginToken } : {}),
          ...(precision ? { precision } : {}),
        }
        const bits = mean / Math.LN2 / bytesPerToken[tokenizer]
        return [
          { name: 'perplexity', dataset, value: Math.exp(mean), unit: '', on, losses },
          { name: 'bits per byte', dataset, value: bits, error: 0.02 * bits, unit: '', on },
        ]
      }
      const texts = [...measuresOf('prose', mostly('v1', 'v2')), ...measuresOf('c4', 'v1')]
      const hits = Array.from({ length: answers }, () => (draw() < loopRate ? '1' : '0')).join('')
      const looping = {
        name: 'looping answers',
        dataset: 'prose',
        value: hits.split('1').length / answers - 1 / answers,
        unit: 'share',
        on: { hash: prompts, count: answers, sequenceLength: 64, ...(precision ? { precision } : {}) },
        hits,
      }
      runs.push({
        id: `run-${runs.length}`,
        name: `${method} ${nominal} ${type ?? ''} #${file}, seed ${seed}`,
        file: `${method} ${nominal} ${type ?? ''} #${file}`,
        status: 'done',
        createdAt: clock++,
        model: { id: model, name: model },
        fingerprint: content,
        lineage: { model, content, pruned: false },
        method,
        baseline: method === 'dense',
        nominal,
        reached: nominal,
        seed,
        parameters: { file, 'calibration.source': 'c4', ...(type ? { weights: type } : {}) },
        calibration: null,
        evaluation: texts.filter(({ name }) => name === 'perplexity').map(({ dataset, on }) => ({ source: dataset, hash: on.hash })),
        measures: [{ name: 'size', dataset: '', value: megabytes * 1e6, unit: 'bytes' }, ...texts, looping],
        tags: [],
        paired: [],
      } as unknown as ComparedRun)
    }
  }
  return runs
}

// The plain recomputation. It shares no code with what it checks.

interface Taken {
  value: number
  error?: number
  on?: { hash: string; count: number; sequenceLength?: number; beginToken?: boolean; precision?: string; text?: string }
  losses?: number[]
  hits?: string
}

const takenBy = (run: ComparedRun, id: string): Taken | undefined =>
  run.measures.find((measure) => (measure.dataset ? `${measure.name}/${measure.dataset}` : measure.name) === id) as Taken | undefined

function mayCompare(one: ComparedRun, other: ComparedRun, id: string): boolean {
  if (one.model.id === other.model.id && one.fingerprint !== other.fingerprint) return false
  const [a, b] = [takenBy(one, id)?.on, takenBy(other, id)?.on]
  if (!a || !b) return true
  if (a.precision !== b.precision) return false
  if (a.count !== b.count || a.sequenceLength !== b.sequenceLength) return false
  if (a.hash === b.hash && a.beginToken === b.beginToken) return true
  const isAcross = id.startsWith('bits per byte') && one.model.id !== other.model.id
  return isAcross && a.text === b.text
}

const lastOfSeeds = (runs: readonly ComparedRun[]) => runs.filter((run, at) => !runs.slice(at + 1).some(({ seed }) => seed === run.seed))
const average = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
const variance = (values: readonly number[]) =>
  values.length < 2 ? 0 : values.reduce((sum, value) => sum + (value - average(values)) ** 2, 0) / (values.length - 1)

/** Student's quantile of 97.5 % by adding up its density. */
const quantiles = new Map<string, number>()
function student(freedom: number): number {
  const key = freedom.toFixed(3)
  const known = quantiles.get(key)
  if (known) return known
  if (freedom > 1e5) return 1.959964
  const density = (t: number) => (1 + (t * t) / freedom) ** (-(freedom + 1) / 2)
  // With t = tan(x) the whole line is a finite range.
  const steps = 40_000
  const width = Math.PI / 2 / steps
  const areas: number[] = []
  let sum = 0
  for (let i = 0; i < steps; i++) {
    const x = (i + 0.5) * width
    sum += density(Math.tan(x)) / Math.cos(x) ** 2
    areas.push(sum)
  }
  const found = Math.tan((areas.findIndex((area) => area >= 0.95 * sum) + 1) * width)
  quantiles.set(key, found)
  return found
}

function binomialTwoSided(fewer: number, of: number): number {
  let [term, tail] = [0.5 ** of, 0]
  for (let k = 0; k <= fewer; k++) {
    tail += term
    term *= (of - k) / (k + 1)
  }
  return Math.min(1, 2 * tail)
}

interface Judged {
  value: number
  half: number
  clear: boolean
}

/** The difference of two groups of runs by a measure: in log perplexity, bits per byte or shares. */
function judge(first: readonly ComparedRun[], second: readonly ComparedRun[], id: string): Judged {
  const logs = id.startsWith('perplexity')
  const [own, other] = [lastOfSeeds(first), lastOfSeeds(second)].map((runs) => runs.map((run) => takenBy(run, id) as Taken))
  const levels = [own, other].map((taken = []) => taken.map(({ value }) => (logs ? Math.log(value) : value))) as [number[], number[]]
  const value = average(levels[0]) - average(levels[1])
  const halves: number[] = []
  let agrees = true
  const windowsOf = (runs: readonly ComparedRun[]) => {
    const taken = lastOfSeeds(runs).map((run) => takenBy(run, id.replace('bits per byte', 'perplexity'))?.losses ?? [])
    return (taken[0] ?? []).map((_, window) => average(taken.map((losses) => losses[window] ?? Number.NaN)))
  }
  if (id.startsWith('looping')) {
    const shares = [own, other].map((taken = []) =>
      Array.from({ length: answers }, (_, at) => average(taken.map(({ hits = '' }) => Number(hits[at])))),
    )
    const differences = shares[0]?.map((share, at) => share - (shares[1]?.[at] ?? 0)) ?? []
    const [gained, lost] = [1, -1].map((sign) => differences.reduce((sum, one) => sum + Math.max(0, sign * one), 0)) as [number, number]
    const [p, q] = [(gained + 1) / (answers + 2), (lost + 1) / (answers + 2)]
    const half = 1.959964 * Math.sqrt((p + q - (p - q) ** 2) / (answers + 2))
    agrees =
      Math.abs(p - q) > half && (levels.some(({ length }) => length > 1) || binomialTwoSided(Math.min(gained, lost), gained + lost) < 0.05)
  } else if (own?.[0]?.on?.hash !== other?.[0]?.on?.hash) {
    const errors = [own, other].map((taken = []) => average(taken.map(({ error = 0 }) => error)))
    halves.push(Math.hypot(...errors) * student((own?.[0]?.on?.count ?? 0) - 1))
  } else {
    const [a, b] = [windowsOf(first), windowsOf(second)]
    const differences = a.map((loss, window) => loss - (b[window] ?? 0))
    const scale = logs
      ? 1
      : (levels[0][0] ?? 0) / Math.log(takenBy(lastOfSeeds(first)[0] as ComparedRun, id.replace('bits per byte', 'perplexity'))?.value ?? 0)
    halves.push(scale * Math.sqrt(variance(differences) / a.length) * student(a.length - 1))
  }
  const [n, m] = [levels[0].length, levels[1].length]
  if (n > 1 || m > 1) {
    const [v, w] = [variance(levels[0]), variance(levels[1])]
    const varies = ([run]: readonly ComparedRun[]) => run?.method !== 'dense'
    if ((n === 1 && varies(first)) || (m === 1 && varies(second)))
      halves.push(Math.sqrt((v + w) / n + (v + w) / m) * student(Math.max(n, m) - 1))
    else {
      const [x, y] = [v / n, w / m]
      halves.push(Math.sqrt(x + y) * student((x + y) ** 2 / (x ** 2 / Math.max(1, n - 1) + y ** 2 / Math.max(1, m - 1))))
    }
  }
  const half = Math.max(0, ...halves)
  return { value, half, clear: Math.abs(value) > half && agrees && !(logs && Math.abs(value) < 1e-4) }
}

const groupsCompare = (one: readonly ComparedRun[], other: readonly ComparedRun[], id: string): boolean =>
  one.every((first) => other.every((second) => mayCompare(first, second, id)))

/** Whether a group is among the best of all that it may be compared with. */
function isBest(group: readonly ComparedRun[], all: readonly (readonly ComparedRun[])[], id: string): boolean {
  const rivals = all.filter((other) => other !== group && other.some((run) => takenBy(run, id)) && groupsCompare(group, other, id))
  const levelOf = (runs: readonly ComparedRun[]) => average(lastOfSeeds(runs).map((run) => Math.log(takenBy(run, id)?.value ?? Number.NaN)))
  const plain = (runs: readonly ComparedRun[]) => average(lastOfSeeds(runs).map((run) => takenBy(run, id)?.value ?? Number.NaN))
  const level = id.startsWith('perplexity') ? levelOf : plain
  if (rivals.length === 0) return false
  const top = [group, ...rivals].reduce((best, other) => (level(other) < level(best) ? other : best))
  return top === group || level(top) === level(group) || !judge(top, group, id).clear
}

const ofSparsity = (groups: readonly ComparedRun[][], [own]: readonly ComparedRun[]) =>
  groups.filter(([run]) => run?.nominal === own?.nominal)

const textMeasures = ['perplexity/prose', 'perplexity/c4', 'bits per byte/prose', 'bits per byte/c4']
const seeds = Array.from({ length: 60 }, (_, seed) => seed + 1)
const titles = { method: (id: string) => id, option: (_: string, name: string) => name }

/** A borderline case may come out either way when sums are rounded otherwise. */
const isBorderline = ({ value, half }: Judged) => Math.abs(Math.abs(value) - half) < 1e-3 * Math.max(half, 1e-9)

test('tables mark the best of what can be compared, and all that do not differ clearly from it', () => {
  let [marked, tied] = [0, 0]
  for (const seed of seeds) {
    const runs = historyOf(uniformNumbers(seed))
    const groups = comparedGroups(runs, null, true).map((group) => group.runs)
    for (const own of groups)
      for (const id of textMeasures) expect(groupsCompare(own, own, id), `history ${seed}: seeds on the same windows`).toBe(true)
    const table = comparisonTable(runs, null, true)
    const columns = measureColumns(runs)
    for (const id of textMeasures) {
      const at = table.columns.length - columns.length + columns.findIndex((column) => measureId(column) === id)
      const cells = table.rows.map((row) => row[at])
      const level = (value: number) => (id.startsWith('perplexity') ? Math.log(value) : value)
      for (const [index, own] of groups.entries()) {
        const mean = average(lastOfSeeds(own).map((run) => level(takenBy(run, id)?.value ?? Number.NaN)))
        expect(level(Number(cells[index]?.value)), `history ${seed}: mean of ${id}`).toBeCloseTo(mean, 9)
      }
      const found = cells.map((cell) => cell?.best ?? false)
      expect(found, `history ${seed}: best by ${id}`).toEqual(groups.map((own) => isBest(own, ofSparsity(groups, own), id)))
      marked += found.filter(Boolean).length
      tied += cells.filter((cell) => cell?.tied).length
    }
    for (const { id, table: own } of sparsityTables(runs)) {
      for (const [at, { label }] of own.columns.entries()) {
        const share = Number(/^([\d.]+) %$/.exec(label)?.[1] ?? Number.NaN) / 100
        if (!(share > 0) || !textMeasures.includes(id)) continue
        const shown = own.rows.flatMap((row) => (typeof row[at]?.value === 'number' ? [`${row[at]?.value} ${row[at]?.best}`] : []))
        for (const model of ['a', 'b']) {
          const competing = groups.filter(([run]) => run?.nominal === share && run.method !== 'dense' && run.model.id === model)
          for (const group of competing) {
            const values = lastOfSeeds(group).map((run) => takenBy(run, id)?.value ?? Number.NaN)
            const mean = id.startsWith('perplexity') ? Math.exp(average(values.map(Math.log))) : average(values)
            const near = shown.filter((text) => Math.abs(Number(text.split(' ')[0]) - mean) < 1e-9 * mean)
            // A later file with the same options may stand in its cell.
            if (near.length > 0)
              expect(near, `history ${seed}: ${label} by ${id}`).toContain(
                near.find((text) => text.endsWith(`${isBest(group, competing, id)}`)),
              )
          }
        }
      }
    }
  }
  expect(marked).toBeGreaterThan(200)
  expect(tied).toBeGreaterThan(50)
})

test('changes against a baseline are stated only where numbers can be compared, and noise is what the losses say', () => {
  let [stated, noise, apart] = [0, 0, 0]
  for (const seed of seeds) {
    const runs = historyOf(uniformNumbers(1000 + seed))
    const pinned = runs.find(({ method }) => method === 'dense') ?? runs[0]
    const groups = comparedGroups(runs, pinned?.id ?? null, true)
    const subjects = groups.map((group) => toSubject(group, pinned?.id ?? null))
    const baseline = subjects.find((subject) => subject.baseline) ?? null
    const lines = comparisonLines(subjects, baseline, measureColumns(runs), titles)
    for (const id of [...textMeasures, 'looping answers/prose']) {
      const line = lines.find((one) => one.id === id)
      for (const [at, subject] of subjects.entries()) {
        const cell = line?.cells[at]
        if (subject === baseline || !baseline) continue
        const may = groupsCompare(subject.runs, baseline.runs, id)
        expect(cell?.delta !== null, `history ${seed}: change of ${id}, ${subject.label}`).toBe(may)
        if (!may) {
          expect(cell?.best, `history ${seed}: ${id} of ${subject.label} is not compared`).toBe(false)
          apart++
          continue
        }
        const judged = judge(subject.runs, baseline.runs, id)
        if (isBorderline(judged)) continue
        expect(cell?.noise === undefined, `history ${seed}: ${id} of ${subject.label} is clear`).toBe(judged.clear)
        stated++
        if (cell?.noise !== undefined) noise++
      }
    }
  }
  expect(Math.min(stated, noise, apart)).toBeGreaterThan(100)
})

test('a verdict takes the best comparable rival, and its outcomes, vetoes and answer follow from losses and answers', () => {
  const answered: string[] = []
  let [fought, alone, vetoes] = [0, 0, 0]
  for (const seed of seeds) {
    const runs = historyOf(uniformNumbers(2000 + seed))
    const byId = new Map(runs.map((run) => [run.id, run]))
    for (const { runs: own } of runsByModel(runs).values()) {
      const found = worthOf(own)
      const runsOf = (row: { runs: string[] }) => row.runs.flatMap((id) => byId.get(id) ?? [])
      const sizeOf = (row: { runs: string[] }) => average(runsOf(row).map((run) => takenBy(run, 'size')?.value ?? Number.NaN))
      const dense = found.rows.filter((row) => !row.pruned)
      // Calibration read c4, so only prose decides.
      const idFor = (one: { runs: string[] }, other: { runs: string[] }) =>
        ['perplexity/prose', 'bits per byte/prose'].find((id) => groupsCompare(runsOf(one), runsOf(other), id))
      for (const { pruned, rival, outcome, vetoed, texts } of found.duels) {
        const about = `history ${seed}: ${pruned.name}`
        const able = dense.filter((row) => sizeOf(row) <= 1.01 * sizeOf(pruned) && idFor(row, pruned))
        const bits = (row: { runs: string[] }) =>
          average(runsOf(row).map((run) => takenBy(run, 'bits per byte/prose')?.value ?? Number.NaN))
        const best = [...able].sort((a, b) => bits(a) - bits(b))[0]
        expect(rival?.name, about).toBe(best?.name)
        if (!best) {
          expect(outcome, about).toBe('no rival')
          alone++
          continue
        }
        const judged = judge(runsOf(pruned), runsOf(best), idFor(pruned, best) ?? '')
        if (!isBorderline(judged)) expect(outcome, about).toBe(judged.clear ? (judged.value < 0 ? 'better' : 'worse') : 'tie')
        const [text] = texts
        const shown = text?.difference
        const level = (value = Number.NaN) => (text?.measure === 'perplexity' ? Math.log(value) : value)
        expect(level(shown?.value), about).toBeCloseTo(judged.value, 9)
        expect(level(shown?.low), about).toBeCloseTo(judged.value - judged.half, 3)
        expect(level(shown?.high), about).toBeCloseTo(judged.value + judged.half, 3)
        const loops = 'looping answers/prose'
        const loop = groupsCompare(runsOf(pruned), runsOf(best), loops) ? judge(runsOf(pruned), runsOf(best), loops) : null
        expect(vetoed, about).toBe(loop?.clear === true && loop.value > 0)
        fought++
        if (vetoed) vetoes++
      }
      const won = found.duels.filter(({ outcome }) => outcome === 'better')
      const answer = won.some(({ vetoed }) => !vetoed)
        ? 'prune'
        : won.length > 0 || found.duels.some(({ outcome }) => outcome === 'worse')
          ? 'do not prune'
          : found.duels.some(({ rival }) => rival)
            ? 'no difference'
            : 'unknown'
      expect(found.answer, `history ${seed}`).toBe(answer)
      answered.push(answer)
      for (const front of found.fronts) {
        const on = front.rows.map(runsOf)
        for (const one of on)
          for (const other of on)
            expect(groupsCompare(one, other, `${front.measure}/${front.kind}`), `history ${seed}: one front`).toBe(true)
      }
    }
  }
  expect(Math.min(fought, alone, vetoes)).toBeGreaterThan(10)
  expect(new Set(answered).size).toBe(4)
})
