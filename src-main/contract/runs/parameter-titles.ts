import { sourceName } from '../data/source-name.ts'
import type { ParameterValue } from './runs.ts'

const dataTitles = {
  source: 'text',
  sequenceLength: 'tokens per window',
  windows: 'windows',
  mix: 'mix of texts',
} as const

const dataNames = { calibration: 'Calibration', 'repair.calibration': 'Repair', 'recover.text': 'Recovery' } as const

const requestTitles: Readonly<Record<string, string>> = {
  'amount.sparsity': 'Sparsity asked for',
  'amount.blocks': 'Blocks asked for',
  'amount.bytes': 'File size asked for',
  'amount.format': 'Format of that file',
  'amount.type': 'Type of that file',
  'amount.tokensPerSecond': 'Tokens per second asked for',
  'amount.milliseconds': 'Milliseconds to the first token asked for',
  'amount.prompt': 'Prompt tokens of that time',
  'repair.kind': 'Repair',
  'recover.amount.tokens': 'Recovery tokens',
  'recover.amount.minutes': 'Recovery minutes',
  'recover.rate': 'Recovery learning rate',
  'recover.trains': 'Recovery trains',
  weights: 'Weights',
  backend: 'Backend',
  memoryBytes: 'Memory limit',
  ...Object.fromEntries(
    Object.entries(dataNames).flatMap(([name, title]) =>
      Object.entries(dataTitles).map(([part, what]) => [`${name}.${part}`, `${title} ${what}`]),
    ),
  ),
}

/** The title of a run's parameter; undefined for options of its method. */
export function parameterTitle(name: string): string | undefined {
  return requestTitles[name]
}

/** A parameter's value in words: files by name, a mix as its texts with their shares, and weights without a type as computed. */
export function parameterText(name: string, value: ParameterValue | undefined): string {
  if (value === undefined) return name === 'weights' ? 'as computed' : '–'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (name.endsWith('.source')) return sourceName(String(value))
  if (!name.endsWith('.mix')) return String(value)
  const parts = JSON.parse(String(value)) as { source: string; share: number }[]
  return parts.map(({ source, share }) => `${sourceName(source)} ${share}`).join(', ')
}

/** A chosen option as a part of a name: `channel share 0.5`, `sparsities 0.25 and 0.5`. */
export function optionText(name: string, value: unknown): string {
  const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
  return `${words} ${Array.isArray(value) ? new Intl.ListFormat('en-GB').format(value.map(String)) : value}`
}
