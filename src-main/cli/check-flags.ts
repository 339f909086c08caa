import { EspalierError } from '#contract/errors.ts'
import { repairKind, usualRepair } from '#contract/pruning/repair.ts'
import { ablationTitles, formatTitles, ggufTypeTitles, methodTitles, taskTitles } from '#contract/titles.ts'
import { backendFlag, bytesFlag, type Flags, integerFlag, listFlag, numberFlag, precisionFlag } from './flags.ts'

const fail = (message: string): never => {
  throw new EspalierError('usage', `${message} See espalier --help.`)
}

/** Refuses a name that is not among those known. */
function checkName(flag: string, name: string, titles: object): void {
  if (!Object.hasOwn(titles, name)) fail(`--${flag} names "${name}"; known are ${Object.keys(titles).join(', ')}.`)
}

/** Checks all that can be checked without opening the model. Throws `usage` with a sentence that helps. */
export function checkFlags(flags: Flags): void {
  if (!flags.model) fail('--model is missing: give a folder, a hub name such as org/name, or "sample" for the bundled model.')
  checkWork(flags)
  checkSaving(flags)
  const pruning = listFlag(flags.pruning_method)
  if (flags.alpha !== undefined && !pruning.includes('2ssp') && !flags.ablation)
    fail('--alpha belongs to 2ssp; give --pruning_method=2ssp.')
  if (flags.repair !== undefined && flags.repair !== 'none' && !repairKind.safeParse(flags.repair).success)
    fail(`--repair is "${flags.repair}"; it must be none, ${repairKind.options.join(' or ')}.`)
  const repairs = (flags.repair ?? 'none') !== 'none' || (flags.repair === undefined && pruning.some(usualRepair))
  if ((flags.repair_data ?? flags.repair_samples) !== undefined && !repairs)
    fail('--repair_data and --repair_samples belong to a repair; give --repair=one-pass or --repair=in-order too.')
  if (flags.logging !== undefined && !/^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$/.test(flags.logging))
    fail(`--logging is "${flags.logging}"; it must be DEBUG, INFO, WARNING, ERROR or CRITICAL.`)
  if (flags.evaluate_divergence && (pruning.length === 0 || flags.ablation !== undefined))
    fail('--evaluate_divergence compares pruned models with the dense one; give a --pruning_method.')
  if (flags.divergence_tokens !== undefined) {
    if (!flags.evaluate_divergence) fail('--divergence_tokens belongs to --evaluate_divergence; give that too.')
    integerFlag('divergence_tokens', flags.divergence_tokens, 2)
  }
  for (const task of listFlag(flags.tasks === undefined ? undefined : [flags.tasks])) checkName('tasks', task, taskTitles)
  if (flags.alpha !== undefined) numberFlag('alpha', flags.alpha, 0.01, 100)
  for (const text of listFlag(flags.seed)) integerFlag('seed', text, 0)
  for (const text of listFlag(flags.num_prune)) integerFlag('num_prune', text, -2)
  for (const text of [...listFlag(flags.sparsity), ...listFlag(flags.sparsity_rate)]) sparsityFlag(text)
  if (flags.executor !== undefined && flags.no_history)
    fail('--executor needs the history, where clusters are set and jobs are remembered; leave out --no_history.')
  if (flags.memory !== undefined) bytesFlag('memory', flags.memory)
  backendFlag(flags.backend)
  if (flags.precision !== undefined) precisionFlag(flags.precision)
}

/** Methods and amounts belong together, an ablation stands alone. */
function checkWork(flags: Flags): void {
  const amounts = [flags.num_prune, flags.sparsity, flags.sparsity_rate].filter((value) => value !== undefined)
  const pruning = listFlag(flags.pruning_method)
  if (amounts.length > 1) fail('--num_prune, --sparsity and --sparsity_rate say the same thing in different ways; give one of them.')
  for (const method of pruning) checkName('pruning_method', method, methodTitles)
  if (flags.ablation !== undefined) {
    if (flags.ablation !== 'all') checkName('ablation', flags.ablation, ablationTitles)
    if (pruning.some((method) => method !== '2ssp'))
      fail(`--ablation studies 2ssp; it cannot go with --pruning_method=${pruning.join(',')}.`)
    return
  }
  if (pruning.length === 0 && !flags.dense)
    fail(`Nothing to do: give --dense, or --pruning_method with one of ${Object.keys(methodTitles).join(', ')}.`)
  if (pruning.length > 0 && amounts.length === 0)
    fail(`--pruning_method=${pruning.join(',')} needs an amount: --sparsity=0.5 or --num_prune=8 (-1 for all, -2 for 25, 37.5 and 50 %).`)
  if (pruning.length === 0 && amounts.length > 0) fail('An amount was given but no --pruning_method.')
}

function checkSaving({ save, format, gguf_type, replace, ablation, pruning_method: methods }: Flags): void {
  const [formats, types] = [listFlag(format), listFlag(gguf_type)]
  if (save && ablation !== undefined) fail('--save needs one plan; an ablation makes many.')
  if (save && listFlag(methods).length === 0) fail('--save needs a --pruning_method.')
  if (formats.length > 0 && !save) fail('--format says how --save writes; give --save FOLDER too.')
  if (replace && !save) fail('--replace lets --save write over a folder; give --save FOLDER too.')
  for (const name of formats) checkName('format', name, formatTitles)
  for (const name of types) checkName('gguf_type', name, ggufTypeTitles)
  if (types.length > 0 && !formats.includes('gguf')) fail('--gguf_type says how a GGUF file stores its weights; give --format=gguf too.')
}

/** A share of the stack, or -1 and -2 as the reference has them. */
export function sparsityFlag(text: string): number {
  return text === '-1' || text === '-2' ? Number(text) : numberFlag('sparsity', text, 0, 1)
}
