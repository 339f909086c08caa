import { EspalierError } from '#contract/errors.ts'
import type { Problem } from '#contract/runs/preflight.ts'

/** Which flags a field of a request came from; `$1` is what the pattern caught. */
const flagsOf: readonly [pattern: RegExp, flag: string][] = [
  [/^options\.(\w+)/, '--option $1=VALUE'],
  [/^calibration/, '--calibration_data'],
  [/^repair/, '--repair_data'],
  [/^measures\.\d+\.data/, '--eval_data'],
  [/^measures\.\d+$/, '--task_folder'],
  [/^memoryBytes/, '--memory'],
  [/^(?:amount|combinations)/, '--sparsity'],
  [/^(folder|replace)/, '--save'],
  [/^replace/, '--replace'],
  [/^format/, '--format'],
]

/** The flags by which what an error complains of can be changed, as a sentence to put behind it; empty where there is none. */
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
