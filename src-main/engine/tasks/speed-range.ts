import type { SpeedRange, SpeedRangeRequest } from '#contract/exports/file-bench.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { costRange, inUnit, speedCost } from '#engine/budgets/find-sparsity.ts'
import { openModel } from '#engine/model/model.ts'
import { parseOptions } from '#engine/pruning/method.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { timeFiles } from './run/time-plans.ts'

interface Host {
  readonly signal: AbortSignal
  emit(event: unknown): void
}

/** Measures the range of speeds that a method's files can reach on this machine, by timing four files in turns. */
export async function measureSpeedRange(
  { model: path, memoryBytes, method, options, weights, speed }: SpeedRangeRequest & { model: string; memoryBytes?: number | undefined },
  { signal, emit }: Host,
): Promise<SpeedRange> {
  await openBackend('auto')
  const model = await openModel(path, memoryBytes)
  try {
    const watch = { signal, progress: (done: number, total: number) => emit({ done, total }) }
    const cost = await speedCost(model.spec, speed, (plans) => timeFiles({ model, method, type: weights, budget: speed }, plans, watch))
    const { least, most } = await costRange(model.spec, { method, options: parseOptions(findMethod(method), options) }, cost)
    const [a, b] = [inUnit(speed, least), inUnit(speed, most)]
    return { from: Math.min(a, b), to: Math.max(a, b) }
  } finally {
    await model.close()
  }
}
