import { isLowerBetter } from '../runs/measures.ts'
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

/** Writes a value in the unit of its cost. */
export function costText(value: number, { unit }: Pick<Cost, 'unit'>): string {
  const rounded = (number: number) => Number(number.toPrecision(3))
  if (unit === 'bytes' && value >= 1e9) return `${rounded(value / 1e9)} GB`
  if (unit === 'bytes') return value < 1e6 ? `${rounded(value / 1e3)} kB` : `${rounded(value / 1e6)} MB`
  return unit === 'seconds' || unit === 's' ? `${rounded(1000 * value)} ms` : `${rounded(value)} ${unit}`.trim()
}
