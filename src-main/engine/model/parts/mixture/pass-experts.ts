import { setImmediate as breathe } from 'node:timers/promises'
import { type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { hasExperts } from '#engine/architectures/spec.ts'
import { disposePart } from '#engine/model/weights/unpack.ts'
import { isUnread, type MixtureWeights, type PartWeights } from '#engine/model/weights/weights.ts'
import { normalize } from '#engine/tensor/norm.ts'
import type { Matrix } from '#engine/tensor/products.ts'
import { addTo, type CallContext, type PartActivations, type Residual } from '../part.ts'
import { ExpertSums } from './mixture.ts'

/** A stream before a mixture, and the call that it belongs to. */
interface Passing {
  readonly residual: Residual
  readonly call: CallContext
}

interface PassOptions {
  readonly signal?: AbortSignal | undefined
  /** Whether only the observers receive anything: the experts run, but the streams do not pass the mixture. */
  readonly looks?: boolean
}

/** Whether a part is a mixture whose experts must be read one by one. */
export const readsExperts = ({ mixture }: PartWeights<Matrix>): boolean => mixture?.experts.some(isUnread) ?? false

/**
 * Takes streams through a mixture whose experts are read one by one. Each expert is read once for all streams, and only if a token chose
 * it. Returns the streams after the mixture, which the caller disposes of. Observers see one expert per call.
 */
export async function passExperts(
  weights: MixtureWeights<Matrix>,
  passing: readonly Passing[],
  { signal, looks = false }: PassOptions,
): Promise<Tensor2D[]> {
  const sums: ExpertSums[] = []
  const after: Tensor2D[] = []
  try {
    for (const { residual, call } of passing) sums.push(new ExpertSums(inputOf(residual, weights, call), weights, call.spec))
    await addExperts(weights, passing, sums, signal)
    for (const [index, { residual, call }] of passing.entries()) {
      const ofStream = at(sums, index)
      if (looks) call.observe?.(seenBy(ofStream, []))
      else after.push(tidy(() => finish(ofStream, weights, residual, call)))
    }
    return after
  } catch (error) {
    for (const x of after) x.dispose()
    throw error
  } finally {
    for (const ofStream of sums) ofStream.dispose()
  }
}

function inputOf({ x, source }: Residual, { norm }: MixtureWeights<Matrix>, { spec }: CallContext): Tensor2D {
  const read = spec.parallelResidual ? source : x
  return norm ? tidy(() => normalize(read, norm)) : read.clone()
}

async function addExperts(
  { experts }: MixtureWeights<Matrix>,
  passing: readonly Passing[],
  sums: readonly ExpertSums[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const only = passing[0]?.call.only ?? (() => true)
  const chosen = [...experts.entries()].filter(([number]) => only(number) && sums.some(({ routes }) => routes.has(number)))
  for (const [index, [number, expert]] of chosen.entries()) {
    signal?.throwIfAborted()
    const read = isUnread(expert) ? await expert.read() : undefined
    const next = chosen[index + 1]?.[1]
    if (next && isUnread(next)) next.readAhead()
    try {
      for (const [place, { call }] of passing.entries()) {
        const ofStream = at(sums, place)
        const weights = read ?? (expert as Exclude<typeof expert, { read: unknown }>)
        ofStream.add(number, weights, (seen) => call.observe?.(seenBy(ofStream, [seen], true)))
      }
    } finally {
      if (read) disposePart({ mlp: read })
    }
    await breathe()
  }
}

function finish(sums: ExpertSums, weights: MixtureWeights<Matrix>, { x }: Residual, { spec, observe }: CallContext): Tensor2D {
  const output = sums.output()
  observe?.(Object.assign(seenBy(sums, []), { output }))
  return addTo(x, output, weights, spec)
}

function seenBy({ input }: ExpertSums, experts: PartActivations['experts'], more = false): PartActivations {
  return {
    input,
    get inner(): Tensor2D {
      throw hasExperts()
    },
    ...(experts ? { experts } : {}),
    ...(more ? { more } : {}),
  }
}
