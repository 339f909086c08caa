import { EspalierError } from '#contract/errors.ts'
import { isPlain, speedText } from '#contract/runs/amount-text.ts'
import type { FileBudget, PlainAmount, RunRequest } from '#contract/runs/run-request.ts'
import type { Described } from '#engine/export/format.ts'
import { parseOptions } from '#engine/pruning/options.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { fileCost, typedBudget } from './file-cost.ts'
import { costRange, type FoundSparsity, findSparsity } from './find-sparsity.ts'

type FileRange = Pick<FoundSparsity, 'least' | 'most'>
type Asked = Pick<RunRequest, 'method' | 'amount' | 'options' | 'weights'>

/**
 * Finds the sparsity that meets a budget, and the range of sizes that the method can reach. Throws `infeasible` with this range if the
 * budget is outside of it.
 */
export async function foreseeBudget(model: Described['model'], asked: Asked, budget: FileBudget): Promise<FoundSparsity> {
  const { method, options } = asked
  const cost = fileCost(model, method, typedBudget(budget, asked))
  return findSparsity(model.spec, { method, options: parseOptions(findMethod(method), options) }, cost)
}

const ranges = new WeakMap<object, Map<string, Promise<FileRange | null>>>()

/** The range of sizes of a method's GGUF files in the weight type of a request; null if GGUF cannot hold them. Results are kept. */
export function ggufRange({ name, checkpoint, spec }: Described['model'], asked: Omit<Asked, 'amount'>): Promise<FileRange | null> {
  const { method, options, weights = null } = asked
  const known = ranges.get(checkpoint) ?? new Map<string, Promise<FileRange | null>>()
  ranges.set(checkpoint, known)
  const key = JSON.stringify([method, options, weights])
  const found = known.get(key) ?? rangeOf({ name, checkpoint, spec }, asked)
  known.set(key, found)
  return found
}

async function rangeOf(model: Described['model'], asked: Omit<Asked, 'amount'>): Promise<FileRange | null> {
  const { method, options } = asked
  try {
    const cost = fileCost(model, method, typedBudget({ bytes: Number.MAX_SAFE_INTEGER, format: 'gguf' }, asked))
    return await costRange(model.spec, { method, options: parseOptions(findMethod(method), options) }, cost)
  } catch (thrown) {
    if (thrown instanceof EspalierError) return null
    throw thrown
  }
}

/** Converts an amount to a share or a number of blocks. Throws `infeasible` for a speed, which must be measured. */
export async function plainAmount(model: Described['model'], asked: Asked): Promise<PlainAmount> {
  const { amount } = asked
  if (isPlain(amount)) return amount
  if ('bytes' in amount) return { sparsity: (await foreseeBudget(model, asked, amount)).sparsity }
  throw new EspalierError('infeasible', `How much ${speedText(amount)} removes is measured when the run starts.`)
}
