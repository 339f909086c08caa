import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { CombinationPreview } from '#contract/experiments.ts'
import type { RunRequest } from '#contract/run-request.ts'
import { type DecoderSpec, stackParameters } from '#engine/architectures/spec.ts'
import { openSpec } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/vocabulary.ts'
import { type Budget, budgetFor } from './budget.ts'
import type { Method, Outline } from './method.ts'
import { findMethod } from './registry.ts'

export type RequestPreview = Omit<CombinationPreview, 'model' | 'method' | 'amount' | 'repair' | 'runs' | 'seconds'>

const impossible = (problem: string): RequestPreview => ({
  feasible: false,
  problem,
  feasibleRange: null,
  attentionRemoved: null,
  blocksRemoved: null,
  neuronsRemovedPerBlock: null,
  reached: null,
  memoryBytes: null,
})

/** What each request would remove and need, from the models' configs alone: no weights are read and nothing is computed. */
export async function previewRequests(requests: readonly RunRequest[]): Promise<RequestPreview[]> {
  const specs = new Map<string, Promise<DecoderSpec>>()
  const specOf = (path: string) => {
    const known = specs.get(path) ?? readSpecOnly(path)
    specs.set(path, known)
    return known
  }
  return Promise.all(requests.map(async (request) => preview(request, await specOf(request.model))))
}

async function readSpecOnly(path: string): Promise<DecoderSpec> {
  const { checkpoint, spec } = await openSpec(path)
  await checkpoint.close()
  return spec
}

function preview(request: RunRequest, spec: DecoderSpec): RequestPreview {
  try {
    const method: Method = findMethod(request.method)
    const options = method.options.parse(request.options)
    const budget = budgetFor(spec, request.amount)
    if (request.repair) requireRepairable(method, options)
    const { least, most } = method.range(spec, options)
    if (budget.sparsity > most + 1e-9)
      throw new EspalierError(
        'infeasible',
        `${method.title} reaches at most ${(100 * most).toFixed(1)} % on this model. Choose a smaller sparsity.`,
      )
    return {
      ...(method.outline?.(spec, budget, options) ?? wholeBlocks(spec, budget)),
      feasible: true,
      problem: null,
      feasibleRange: { minimum: least, maximum: most },
      memoryBytes: memoryNeeded(spec, request),
    }
  } catch (error) {
    return impossible(toErrorMessage(error).message)
  }
}

/** Throws for what leaves nothing that a repair could fit. */
function requireRepairable({ title, unit }: Method, options: Record<string, unknown>): void {
  if (unit === 'width')
    throw new EspalierError('infeasible', `${title} cannot be repaired: its stream has another basis. Choose no repair.`)
  if (options.cut === 'channels')
    throw new EspalierError('infeasible', `${title} cannot be repaired where it cuts channels. Let it cut neurons, or choose no repair.`)
}

/** Weights as float32 and the streams of one window: what stays in memory when nothing has to be streamed. */
function memoryNeeded(spec: DecoderSpec, { calibration, memoryBytes }: RunRequest): number {
  const weights = 4 * stackParameters(spec) + Vocabulary.bytes(spec)
  const streams = 4 * 2 * spec.blocks.length * (calibration?.sequenceLength ?? 0) * spec.hidden
  return Math.min(weights + streams, memoryBytes ?? Number.POSITIVE_INFINITY)
}

/** What depth methods remove: whole blocks, or as many attentions and MLPs as those have. */
function wholeBlocks(spec: DecoderSpec, { blocks }: Budget): Outline {
  return { attentionRemoved: blocks, blocksRemoved: blocks, neuronsRemovedPerBlock: 0, reached: blocks / spec.blocks.length }
}
