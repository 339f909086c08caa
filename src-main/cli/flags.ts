import { parseArgs } from 'node:util'
import { closest, distance } from 'fastest-levenshtein'
import { EspalierError } from '#contract/errors.ts'
import { precisionName } from '#contract/pruning/precision.ts'
import { backendChoice } from '#contract/runs/run-request.ts'

/** Every flag of the pruning command, in underscore spelling; dashes are taken too. */
const flags = {
  model: { type: 'string' },
  revision: { type: 'string' },
  seed: { type: 'string', multiple: true },
  cache_dir: { type: 'string' },
  dense: { type: 'boolean' },
  pruning_method: { type: 'string', multiple: true },
  num_prune: { type: 'string', multiple: true },
  sparsity_rate: { type: 'string', multiple: true },
  sparsity: { type: 'string', multiple: true },
  ablation: { type: 'string' },
  main_table_results: { type: 'boolean' },
  evaluate_divergence: { type: 'boolean' },
  divergence_tokens: { type: 'string' },
  evaluate_inference: { type: 'boolean' },
  evaluate_downstream: { type: 'boolean' },
  evaluate_perplexity: { type: 'boolean' },
  evaluate_qualitative: { type: 'boolean' },
  local_datasets: { type: 'boolean' },
  alpha: { type: 'string' },
  option: { type: 'string', multiple: true },
  calibration_data: { type: 'string' },
  eval_data: { type: 'string', multiple: true },
  sequence_length: { type: 'string' },
  calibration_samples: { type: 'string' },
  repair: { type: 'string' },
  repair_data: { type: 'string' },
  repair_samples: { type: 'string' },
  tasks: { type: 'string' },
  task_folder: { type: 'string' },
  task_limit: { type: 'string' },
  executor: { type: 'string' },
  backend: { type: 'string' },
  precision: { type: 'string' },
  memory: { type: 'string' },
  save: { type: 'string' },
  replace: { type: 'boolean' },
  format: { type: 'string', multiple: true },
  gguf_type: { type: 'string', multiple: true },
  output: { type: 'string' },
  json: { type: 'boolean' },
  no_history: { type: 'boolean' },
  logging: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const

export const flagNames = Object.keys(flags)

export type Flags = ReturnType<typeof parseFlags>

/** `--dash-spelling=x` as `--dash_spelling=x`; values stay as they are. */
function underscored(argument: string): string {
  const match = /^--[^=]+/.exec(argument)
  return match ? `--${match[0].slice(2).replaceAll('-', '_')}${argument.slice(match[0].length)}` : argument
}

/** A value that begins with a minus (`--num_prune -1`) is joined to its flag, which the parser asks for. */
function joinNegative(arguments_: readonly string[]): string[] {
  const joined: string[] = []
  for (const argument of arguments_) {
    const last = joined.at(-1)
    if (/^-\d/.test(argument) && last?.startsWith('--') && !last.includes('=')) joined[joined.length - 1] = `${last}=${argument}`
    else joined.push(argument)
  }
  return joined
}

/** Reads the flags. Throws `usage` for an unknown one, with the one that was probably meant. */
export function parseFlags(arguments_: readonly string[]) {
  const args = joinNegative(arguments_.map(underscored))
  try {
    return parseArgs({ args, options: flags, allowPositionals: false, strict: true }).values
  } catch (error) {
    throw new EspalierError('usage', explain(error as Error & { code?: string }, args))
  }
}

function explain(error: Error & { code?: string }, args: readonly string[]): string {
  const named = /--[\w]+/.exec(error.message)?.[0].slice(2)
  if (error.code === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL') {
    const stray = args.find((argument) => !argument.startsWith('-')) ?? ''
    return `"${stray}" is no command and no flag. Commands are methods, models, runs and serve; flags begin with --. See espalier --help.`
  }
  if (named && !flagNames.includes(named)) {
    const near = closest(named, flagNames)
    return `There is no flag --${named}.${distance(near, named) <= 3 ? ` Did you mean --${near}?` : ''} See espalier --help.`
  }
  return `${error.message.split('\n')[0]} See espalier --help.`
}

/** A whole number from a flag's text. */
export function integerFlag(name: string, text: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isInteger(value) || value < least || value > most) {
    throw new EspalierError(
      'usage',
      `--${name} is "${text}"; it must be a whole number from ${least}${most < Number.MAX_SAFE_INTEGER ? ` to ${most}` : ''}.`,
    )
  }
  return value
}

export function numberFlag(name: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value) || value < least || value > most) {
    throw new EspalierError('usage', `--${name} is "${text}"; it must be a number from ${least} to ${most}.`)
  }
  return value
}

const units: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }

/** Bytes of `250MB`, `4G` or a plain number; units are powers of 1024. */
export function bytesFlag(name: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim())
  const bytes = match ? Math.floor(Number(match[1]) * (units[(match[2] ?? '').toLowerCase()] ?? 1)) : 0
  if (bytes < 2 ** 20) throw new EspalierError('usage', `--${name} is "${text}"; it must be a size such as 250MB or 4GB, at least 1MB.`)
  return bytes
}

export function backendFlag(text: string | undefined) {
  const parsed = backendChoice.safeParse(text ?? 'auto')
  if (!parsed.success) throw new EspalierError('usage', `--backend is "${text}"; it must be one of ${backendChoice.options.join(', ')}.`)
  return parsed.data
}

export function precisionFlag(text: string) {
  const parsed = precisionName.safeParse(text)
  if (!parsed.success) throw new EspalierError('usage', `--precision is "${text}"; it must be one of ${precisionName.options.join(', ')}.`)
  return parsed.data
}

/** Values given by repeating a flag or by commas. */
export function listFlag(values: readonly string[] | undefined): string[] {
  return (values ?? [])
    .flatMap((value) => value.split(','))
    .map((value) => value.trim())
    .filter(Boolean)
}
