import { EspalierError } from '#contract/errors.ts'
import { contentsLabel } from '#contract/runs/step-names.ts'
import { modelContents, quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import type { StepStore } from '#engine/steps/step-name.ts'
import { nameStep, type StepKind, type StepName } from '#engine/steps/step-name.ts'

/**
 * Reading a whole model takes seconds to minutes. It is done once per quick key: other runs on a cluster wait for the run that reads it.
 */
const contentsStep: StepKind = { version: 1, reach: 'shared' }

/** The name under which the fingerprint for this quick key is stored. */
export const contentsName = (quickKey: string): StepName => nameStep({ kind: contentsStep, label: contentsLabel, on: { quickKey } }, null)

/** Throws `conflict` if the model at the path is not the one that the plans were made for, because they would be meaningless for it. */
export async function requireOwnModel(
  path: string,
  fingerprints: readonly (string | null)[],
  { steps, signal }: { readonly steps: Pick<StepStore, 'get'>; readonly signal: AbortSignal },
): Promise<void> {
  const expected = fingerprints.filter((one) => one !== null)
  if (expected.length === 0) return
  const known = await steps.get(contentsName(await quickKeyOf(path)))
  const found = known ? (known.value as { value: unknown }).value : await modelContents(path, { signal })
  if (expected.some((one) => one !== found))
    throw new EspalierError(
      'conflict',
      `The model at ${path} was replaced after it was pruned, so the plan no longer fits it. Prune the new model.`,
    )
}
