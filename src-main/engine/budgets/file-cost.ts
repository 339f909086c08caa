import { fileSizeText } from '#contract/runs/amount-text.ts'
import type { FileBudget, RunRequest } from '#contract/runs/run-request.ts'
import type { Described } from '#engine/export/format.ts'
import { findFormat } from '#engine/export/index.ts'
import type { CostLimit } from '#engine/pruning/budget.ts'

/** Bytes reserved in a GGUF file, which repeats the model card: the card of a finished run is longer than the predicted one. */
const cardRoom = 2 ** 11

/** The budget with the weight type that its file will have. */
export function typedBudget(budget: FileBudget, { weights }: Pick<RunRequest, 'weights'>): FileBudget {
  const { type, ...others } = budget
  return budget.format === 'gguf' ? { ...others, type: weights ?? type ?? 'F16' } : others
}

/** The sizes of plans as files of a budget's format. Reads no weights. */
export function fileCost(model: Described['model'], method: string, { bytes, format, type = 'F16' }: FileBudget): CostLimit {
  const written = findFormat(format)
  const spare = format === 'gguf' ? cardRoom : 0
  return {
    asked: fileSizeText(bytes),
    text: fileSizeText,
    most: bytes - spare,
    spare,
    of: (plan) => written.fileBytes({ model, plan, method }, type),
  }
}
