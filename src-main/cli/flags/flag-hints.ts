import { EspalierError } from '#contract/errors.ts'
import type { Problem } from '#contract/runs/preflight.ts'

/** The flag behind a field of a request; `$1` is the pattern's match. */
const flagsOf: readonly [pattern: RegExp, flag: string][] = [
  [/^options\.(\w+)/, '--option $1=VALUE'],
  [/^calibration/, '--calibration_data'],
  [/^repair/, '--repair_data'],
  [/^recover/, '--recover_data'],
  [/^measures\.\d+\.data/, '--eval_data'],
  [/^measures\.\d+$/, '--task_folder'],
  [/^memoryBytes/, '--memory'],
  [/^(?:amount|combinations)/, '--sparsity, --fit'],
  [/^(folder|replace)/, '--save'],
  [/^replace/, '--replace'],
  [/^format/, '--format'],
]

/** Returns a sentence with the flags that set an error's fields, or an empty string if there are none. */
export function flagHints(thrown: unknown): string {
  if (!(thrown instanceof EspalierError)) return ''
  const problems = (thrown.details?.problems ?? []) as readonly Problem[]
  const flags = problems.flatMap(({ field, code }) => {
    const matching = flagsOf.flatMap(([pattern, flag]) => {
      const found = pattern.exec(field)
      return found ? flag.replace('$1', found[1] ?? '') : []
    })
    return code === 'unreachable' ? [...matching, '--local_datasets'] : matching
  })
  const distinct = [...new Set(flags)]
  return distinct.length === 0 ? '' : ` See ${distinct.join(', ')}.`
}
