import { sourceName } from '../data/source-name.ts'
import { weightText } from '../titles.ts'
import type { ParameterValue } from './runs.ts'

const dataTitles = {
  source: 'text',
  sequenceLength: 'tokens per window',
  windows: 'windows',
  mix: 'mix of texts',
  'split.part': 'part of the text',
  'split.seed': 'seed of the split',
} as const

const dataNames = { calibration: 'Calibration', 'repair.calibration': 'Repair', 'recover.text': 'Recovery' } as const

const requestTitles: Readonly<Record<string, string>> = {
  'amount.sparsity': 'Requested sparsity',
  'amount.blocks': 'Requested blocks',
  'amount.bytes': 'Requested file size',
  'amount.format': 'Format of requested file',
  'amount.type': 'Type of requested file',
  'amount.tokensPerSecond': 'Requested tokens per second',
  'amount.milliseconds': 'Requested milliseconds to first token',
  'amount.prompt': 'Prompt tokens for requested time',
  'vocabulary.rows': 'Kept tokens',
  'vocabulary.share': 'Share of kept tokens',
  'repair.kind': 'Repair',
  'recover.amount.tokens': 'Recovery tokens',
  'recover.amount.minutes': 'Recovery minutes',
  'recover.rate': 'Recovery learning rate',
  'recover.trains': 'Recovery weights',
  beginToken: 'Begin token',
  weights: 'Weights',
  backend: 'Backend',
  memoryBytes: 'Memory limit',
  ...Object.fromEntries(
    Object.entries(dataNames).flatMap(([name, title]) =>
      Object.entries(dataTitles).map(([part, what]) => [`${name}.${part}`, `${title} ${what}`]),
    ),
  ),
}

/** Returns the title of a run's parameter. Undefined for options of its method. */
export function parameterTitle(name: string): string | undefined {
  return requestTitles[name]
}

/** Writes a parameter's value: files by name, a mix as its texts with their shares, and a missing weight type as `as computed`. */
export function parameterText(name: string, value: ParameterValue | undefined): string {
  if (value === undefined) return name === 'weights' ? 'as computed' : '–'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (name === 'weights') return weightText(String(value))
  if (name.endsWith('.source')) return sourceName(String(value))
  if (!name.endsWith('.mix')) return String(value)
  const parts = JSON.parse(String(value)) as { source: string; share: number }[]
  return parts.map(({ source, share }) => `${sourceName(source)} ${share}`).join(', ')
}

/** Writes an option as part of a run's name: `channel share 0.5`, `sparsities 0.25 and 0.5`. */
export function optionText(name: string, value: unknown): string {
  const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
  return `${words} ${Array.isArray(value) ? new Intl.ListFormat('en-GB').format(value.map(String)) : value}`
}
