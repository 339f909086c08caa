import { isLowerBetter } from '../runs/measures.ts'
import type { Amount } from '../runs/run-request.ts'
import { inLlama } from '../runs/time/speed.ts'
import { upperFirst } from '../words.ts'
import type { ComparedRun } from './compared-run.ts'
import { measureColumns, measureId } from './measure-columns.ts'

/** A cost of using a file, such as its size. A verdict compares files of equal cost. */
export interface Cost {
  /** The id of the measure. */
  id: string
  title: string
  lowerIsBetter: boolean
  unit: string
  /** Describes files that cost the same: `the best dense file of its size`. */
  equal: string
  /** `No dense file is as small as …`. */
  least: string
  /** Text after a value: `120 ms to the first token`. */
  of: string
  /** Describes files that cost less. */
  cheaper: string
}

export const fileSize: Cost = {
  id: 'size',
  title: 'File size',
  lowerIsBetter: true,
  unit: 'bytes',
  of: '',
  equal: 'of its size',
  least: 'as small as',
  cheaper: 'smaller',
}

const timed = { equal: 'at its speed', least: 'as fast as', cheaper: 'faster' }
const held = { equal: 'with its memory', least: 'as light as', cheaper: 'lighter' }
const kinds: Readonly<Record<string, Pick<Cost, 'of' | 'equal' | 'least' | 'cheaper'>>> = {
  'time to first token': { of: ' to the first token', ...timed },
  'inference time': { of: ' per pass', ...timed },
  'tokens per second': { of: '', ...timed },
  memory: { of: ' of memory', ...held },
  'KV cache per token': { of: ' of cache per token', ...held },
}

/** Returns file size, and then all other costs that were measured for both a dense and a pruned run. */
export function costsOf(runs: readonly ComparedRun[], isPruned: (run: ComparedRun) => boolean): Cost[] {
  const has = (id: string, pruned: boolean) =>
    runs.some((run) => isPruned(run) === pruned && run.measures.some((measure) => measureId(measure) === id))
  const measured = measureColumns(runs).flatMap(({ id, name, dataset, unit }): Cost[] => {
    const words = kinds[name]
    const title = `${upperFirst(name)}${dataset ? ` (${dataset})` : ''}`
    return words && has(id, false) && has(id, true) ? [{ id, title, lowerIsBetter: isLowerBetter(name), unit, ...words }] : []
  })
  return [fileSize, ...measured]
}

const writingSpeed = measureId({ name: 'tokens per second', dataset: inLlama('decode') })

/** Returns what the amounts of an experiment limit: the speed of writing, the time to the first token, or otherwise the size of the file. */
export function costAskedFor(amounts: readonly Amount[], costs: readonly Cost[]): Cost {
  const asked = amounts.flatMap((amount) => {
    if ('tokensPerSecond' in amount) return [writingSpeed]
    return 'prompt' in amount ? [measureId({ name: 'time to first token', dataset: inLlama(`${amount.prompt} tokens`) })] : []
  })
  return costs.find(({ id }) => asked.includes(id)) ?? fileSize
}

/** Returns the speeds that runs were asked to reach. */
export function speedsAskedFor(runs: readonly Pick<ComparedRun, 'parameters'>[]): Amount[] {
  return runs.flatMap(({ parameters }): Amount[] => {
    const of = (name: string) => Number(parameters[`amount.${name}`] ?? Number.NaN)
    const [tokensPerSecond, milliseconds, prompt] = [of('tokensPerSecond'), of('milliseconds'), of('prompt')]
    if (tokensPerSecond > 0) return [{ tokensPerSecond }]
    return milliseconds > 0 && prompt > 0 ? [{ milliseconds, prompt }] : []
  })
}

/** A file whose speed was measured this far below what was asked for has missed it. Less is within what times vary by. */
const missedShare = 0.95

/**
 * Says which files write more slowly than their runs were asked for: a plan is chosen by a table of speeds, and measured as a file.
 * Undefined if none does.
 */
export function missedText(
  runs: readonly Pick<ComparedRun, 'id' | 'parameters'>[],
  cost: Cost,
  files: readonly { readonly name: string; readonly runs: readonly string[]; readonly cost: { readonly mean: number } }[],
): string | undefined {
  if (cost.id !== writingSpeed) return undefined
  const missed = files.flatMap(({ name, runs: own, cost: { mean } }) => {
    const amounts = speedsAskedFor(runs.filter(({ id }) => own.includes(id)))
    const asked = Math.max(...amounts.flatMap((amount) => ('tokensPerSecond' in amount ? [amount.tokensPerSecond] : [])))
    return mean < missedShare * asked ? [`${name} reaches ${costText(mean, cost)} instead of ${costText(asked, cost)}`] : []
  })
  return missed.length > 0 ? `Slower than you asked for, as measured: ${missed.join(', ')}.` : undefined
}

/** Writes a value in the unit of its cost. */
export function costText(value: number, { unit }: Pick<Cost, 'unit'>): string {
  const rounded = (number: number) => Number(number.toPrecision(3))
  if (unit === 'bytes' && value >= 1e9) return `${rounded(value / 1e9)} GB`
  if (unit === 'bytes') return value < 1e6 ? `${rounded(value / 1e3)} kB` : `${rounded(value / 1e6)} MB`
  return unit === 'seconds' || unit === 's' ? `${rounded(1000 * value)} ms` : `${rounded(value)} ${unit}`.trim()
}
