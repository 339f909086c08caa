import { EspalierError } from '#contract/errors.ts'
import { methodTitles } from '#contract/titles.ts'
import type { Flags } from './flags.ts'

export const fail = (message: string): never => {
  throw new EspalierError('usage', `${message} See espalier --help.`)
}

/** Checks combinations of flags before any work. Throws `usage`. */
export function checkFlags(flags: Flags): void {
  if (!flags.model) fail('--model is missing: give a folder, a hub name such as org/name, or "sample" for the bundled model.')
  checkWork(flags)
  checkSaving(flags)
  checkRecovery(flags)
  checkDivergence(flags)
  if (flags.alpha !== undefined && !flags.pruning_method.includes('2ssp') && !flags.ablation)
    fail('--alpha belongs to 2ssp; give --pruning_method=2ssp.')
  if (flags.executor !== undefined && flags.no_history)
    fail('--executor needs the history, which stores clusters and jobs. Remove --no_history.')
}

/** A method needs an amount, and an amount needs a method. An ablation studies only 2ssp and may omit the amount. */
function checkWork({ num_prune, sparsity, sparsity_rate, fit, pruning_method: methods, ablation, dense }: Flags): void {
  const amounts = [num_prune, sparsity, sparsity_rate, fit].filter((values) => values.length > 0)
  if (amounts.length > 1) fail('--num_prune, --sparsity, --sparsity_rate and --fit all set the amount; give one of them.')
  if (ablation !== undefined) {
    if (methods.some((method) => method !== '2ssp'))
      fail(`--ablation studies 2ssp; it cannot be combined with --pruning_method=${methods.join(',')}.`)
    return
  }
  if (methods.length === 0 && !dense)
    fail(`Nothing to do: give --dense, or --pruning_method with one of ${Object.keys(methodTitles).join(', ')}.`)
  if (methods.length > 0 && amounts.length === 0)
    fail(
      `--pruning_method=${methods.join(',')} needs an amount: --sparsity=0.5, --fit=6GB or --num_prune=8 (-1 for all, -2 for 25, 37.5 and 50 %).`,
    )
  if (methods.length === 0 && amounts.length > 0) fail('An amount was given, but no --pruning_method.')
}

function checkSaving({ save, fit, format, gguf_type, replace, ablation, dense, pruning_method: methods }: Flags): void {
  if (save && ablation !== undefined) fail('--save needs one plan; an ablation has many.')
  if (save && methods.length === 0 && !dense) fail('--save needs a --pruning_method or --dense.')
  if (fit.length > 0 && format.length > 1) fail('--fit gives the size of one kind of file; give one --format.')
  if (format.length > 0 && !save && fit.length === 0) fail('--format is the format that --save writes; give --save FOLDER too.')
  if (replace && !save) fail('--replace lets --save replace a folder; give --save FOLDER too.')
  if (gguf_type.length > 0 && !format.includes('gguf') && (fit.length === 0 || format.length > 0))
    fail('--gguf_type says how a GGUF file stores its weights; give --format=gguf too.')
  const writesGguf = save !== undefined && format.includes('gguf')
  if (gguf_type.length > 0 && !writesGguf && fit.some((budget) => !('bytes' in budget)))
    fail(`--gguf_type=${gguf_type.join(',')} does not apply to a speed; give --weights=${gguf_type.join(',')} instead.`)
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
