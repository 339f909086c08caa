import { EspalierError } from '#contract/errors.ts'
import { methodTitles, type WeightType } from '#contract/titles.ts'
import { isExpertShare, setsRows } from './flag-values.ts'
import type { Flags } from './flags.ts'

export const fail = (message: string): never => {
  throw new EspalierError('usage', `${message} See espalier --help.`)
}

/** Checks combinations of flags before any work. Throws `usage`. */
export function checkFlags(flags: Flags): void {
  if (!flags.model) fail('--model is missing: give a folder, a hub name such as org/name, or "sample" for the bundled model.')
  checkWork(flags)
  checkSaving(flags)
  if (flags.vocabulary && (flags.ablation !== undefined || flags.pruning_method.includes('vocabulary')))
    fail('--vocabulary comes before another method. Give --option rows=32000 to the method vocabulary, and no --ablation.')
  checkRecovery(flags)
  checkDivergence(flags)
  if (flags.for !== undefined && flags.calibration_data !== undefined)
    fail('--for and --calibration_data both give the calibration text. Give one of them.')
  if (flags.alpha !== undefined && !flags.pruning_method.includes('2ssp') && !flags.ablation)
    fail('--alpha belongs to 2ssp; give --pruning_method=2ssp.')
  if (flags.executor !== undefined && flags.no_history)
    fail('--executor needs the history, which stores clusters and jobs. Remove --no_history.')
}

/** A method needs an amount, and an amount needs a method. An ablation studies only 2ssp and may omit the amount. */
function checkWork({
  num_prune,
  sparsity,
  sparsity_rate,
  fit,
  expert_share,
  option,
  pruning_method: methods,
  ablation,
  dense,
}: Flags): void {
  const shares = [...expert_share, ...option.filter(([name]) => isExpertShare(name, methods))]
  const rows = option.filter(([name]) => setsRows(name, methods))
  const amounts = [num_prune, sparsity, sparsity_rate, fit, shares].filter((values) => values.length > 0)
  if (amounts.length > 1)
    fail('--num_prune, --sparsity, --sparsity_rate, --expert_share (or --option share) and --fit all set the amount; give one of them.')
  if (rows.length > 0 && amounts.length > 0)
    fail('--option rows, share and coverage say how many rows of the vocabulary stay. Give no other amount with them.')
  if (ablation !== undefined) {
    if (methods.some((method) => method !== '2ssp'))
      fail(`--ablation studies 2ssp; it cannot be combined with --pruning_method=${methods.join(',')}.`)
    return
  }
  if (methods.length === 0 && !dense)
    fail(`Nothing to do: give --dense, or --pruning_method with one of ${Object.keys(methodTitles).join(', ')}.`)
  if (methods.length > 0 && amounts.length + rows.length === 0)
    fail(
      `--pruning_method=${methods.join(',')} needs an amount: --sparsity=0.5, --fit=6GB or --num_prune=8 (-1 for all, -2 for 25, 37.5 and 50 %).`,
    )
  if (methods.length === 0 && amounts.length > 0) fail('An amount was given, but no --pruning_method.')
}

function checkSaving(flags: Flags): void {
  const { save, fit, format, gguf_type, replace, ablation, dense, pruning_method: methods } = flags
  if (save && ablation !== undefined) fail('--save needs one plan; an ablation has many.')
  if (save && methods.length === 0 && !dense) fail('--save needs a --pruning_method or --dense.')
  if (fit.length > 0 && format.length > 1) fail('--fit gives the size of one kind of file; give one --format.')
  if (fit.length > 0 && gguf_type.length > 1) fail('--fit gives the size of one kind of file; give one --gguf_type.')
  if (format.length > 0 && !save && fit.length === 0) fail('--format is the format that --save writes; give --save FOLDER too.')
  if (replace && !save) fail('--replace lets --save replace a folder; give --save FOLDER too.')
  checkTypes(flags)
}

/** The type that is measured or timed must be the type that is saved. */
function checkTypes({ save, fit, format, gguf_type, weights }: Flags): void {
  const measured = measuredType({ weights, fit })
  const types = gguf_type.join(',')
  const mixed = fit.find((budget) => 'type' in budget)
  if (mixed && (weights.length > 0 || gguf_type.length > 0))
    fail('--fit=MIXED:SIZE chooses the types, too; remove --weights and --gguf_type.')
  if (gguf_type.length > 0 && !format.includes('gguf') && ((fit.length === 0 && !measured) || format.length > 0))
    fail('--gguf_type says how a GGUF file stores its weights; give --format=gguf too.')
  if (fit.some((budget) => !('bytes' in budget)) && gguf_type.length > 0 && types !== measured)
    fail(`--gguf_type=${types} does not apply to a speed; give --weights=${types} instead.`)
  if (fit.length > 0 && weights.length > 1 && gguf_type.length > 0)
    fail(`--gguf_type=${types} and --weights=${weights.join(',')} both set the type that --fit weighs; give one of them.`)
  if (!measured || !(save || fit.length > 0)) return
  if (gguf_type.length > 0 && types !== measured)
    fail(`--weights=${measured} measures a GGUF file of that type, but --gguf_type=${types} saves another; give one of them.`)
  if (format.length > 0 && format.join() !== 'gguf')
    fail(
      `${weights.length > 0 ? `--weights=${measured}` : `--fit=${measured}`} measures a GGUF file, but --format=${format.join(',')} saves another; give --format=gguf, or remove ${weights.length > 0 ? '--weights' : '--fit'}.`,
    )
}

/** The type of GGUF file that all measures are taken on. Undefined if they are taken on the weights as computed, or in several types. */
export function measuredType({ weights, fit }: Pick<Flags, 'weights' | 'fit'>): WeightType | undefined {
  const [budget, ...more] = fit
  if (budget && 'type' in budget && more.length === 0) return budget.type
  const [type, ...others] = weights
  return type === undefined || type === 'computed' || others.length > 0 ? undefined : type
}

function checkRecovery({ recover = 'none', recover_data, recover_weights }: Flags): void {
  if ((recover_data ?? recover_weights) !== undefined && recover === 'none')
    fail('--recover_data and --recover_weights belong to a recovery; give --recover=10min or --recover=262144 too.')
}

function checkDivergence({ evaluate_divergence, divergence_tokens, pruning_method: methods, ablation }: Flags): void {
  if (evaluate_divergence && (methods.length === 0 || ablation !== undefined))
    fail('--evaluate_divergence compares pruned models with the dense one; give a --pruning_method.')
  if (divergence_tokens !== undefined && !evaluate_divergence) fail('--divergence_tokens belongs to --evaluate_divergence; give that too.')
}
