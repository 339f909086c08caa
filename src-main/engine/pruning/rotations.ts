import { matMul, mean, sub, type Tensor2D, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import { type RawOperations, rawOperations } from '#engine/backend/raw-operations.ts'
import type { Windows } from '#engine/data/windows.ts'
import { disposeResidual } from '#engine/model/decoder.ts'
import { groupWindows } from '#engine/model/forward.ts'
import { embeddingRotationName, type PlanTensors, rotatedParts, rotationName, slicePart } from '#engine/model/slice.ts'
import type { DecoderSpec } from '#engine/model/spec.ts'
import type { ModelView } from '#engine/model/view.ts'
import { breathe, type Stream, Walk } from '#engine/model/walk.ts'
import { blockOf, mlpOf, type Part } from '#engine/model/weights.ts'
import { addOuterProducts } from './covariance.ts'
import { symmetricEigen } from './eigen.ts'
import { RuntimeMoments } from './runtime-moments.ts'

export interface RotationOptions {
  /** Coordinates d that stay of D. */
  readonly width: number
  readonly epsilon: number
  /** Whether the mean of each embedding is taken off. */
  readonly centre: boolean
}

interface Report {
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

type PlanTensor = { readonly values: Float32Array; readonly shape: readonly [number, number] }

/**
 * SliceGPT's rotations, [D, d] each: the principal components of the stream in front of each part, of a model whose earlier parts are
 * sliced already. One pass over the parts: a part runs on the cut stream and adds to it in the full basis, where the next is found.
 */
export async function findRotations(view: ModelView, windows: Windows, options: RotationOptions, report: Report): Promise<PlanTensors> {
  requireRoom(view, windows)
  const tensors = new Map<string, PlanTensor>()
  const walk = new Walk(view)
  const streams: Stream[] = []
  try {
    for (const { ids, batch } of groupWindows(windows)) {
      const stream = await walk.embed(ids, batch)
      streams.push(stream)
      if (options.centre) takeMeanOff(stream)
    }
    const rotated = new Set(rotatedParts(view.spec))
    for (const [position, part] of view.parts.entries()) {
      report.signal?.throwIfAborted()
      if (rotated.has(part)) {
        const rotation = await principalComponents(streams, view.spec.hidden, options.width)
        tensors.set(rotationName(part), rotation)
        const parts = view.spec.parallelResidual ? [part, mlpOf(blockOf(part))] : [part]
        await runBehind(walk, view.spec, parts, rotation, streams, options)
      }
      report.progress?.(position + 1, view.parts.length)
    }
  } finally {
    for (const { residual } of streams) disposeResidual(residual)
    walk.dispose()
  }
  const [first] = view.parts
  tensors.set(embeddingRotationName, embeddingRotation(tensors.get(rotationName(first ?? 0)) as PlanTensor, options.centre))
  return tensors
}

function requireRoom({ model, spec }: ModelView, windows: Windows): void {
  const bytes = windows.reduce((sum, { length }) => sum + 4 * length * spec.hidden, 0)
  if (bytes <= model.workspaceBytes) return
  const most = Math.max(1, Math.floor((model.workspaceBytes / bytes) * windows.length))
  throw new EspalierError(
    'out-of-memory',
    `The stream of ${windows.length} windows takes ${Math.ceil(bytes / 2 ** 20)} MiB, ${Math.floor(model.workspaceBytes / 2 ** 20)} MiB are free for it. Use at most ${most} windows, or give more memory with --memory.`,
  )
}

function takeMeanOff(stream: Stream): void {
  const { x } = stream.residual
  const centred = tidy(() => sub<Tensor2D>(x, mean(x, 1, true)))
  disposeResidual(stream.residual)
  stream.residual = { x: centred, source: centred.clone() }
}

/** What embeddings are multiplied by, [D, d]: taking off the mean of each is a product too. */
function embeddingRotation({ values, shape }: PlanTensor, centre: boolean): PlanTensor {
  if (!centre) return { values, shape }
  const [rows, columns] = shape
  const own = values.slice()
  for (let column = 0; column < columns; column++) {
    let sum = 0
    for (let row = 0; row < rows; row++) sum += values[row * columns + column] ?? 0
    for (let row = 0; row < rows; row++) own[row * columns + column] = (values[row * columns + column] ?? 0) - sum / rows
  }
  return { values: own, shape }
}

/** Runs the parts that read one rotated stream, on all streams: each goes on in the full basis. */
async function runBehind(
  walk: Walk,
  spec: DecoderSpec,
  parts: readonly Part[],
  rotation: PlanTensor,
  streams: readonly Stream[],
  { epsilon }: RotationOptions,
): Promise<void> {
  const input = tensor2d(rotation.values, [...rotation.shape])
  for (const stream of streams) {
    const x = matMul<Tensor2D>(stream.residual.x, input)
    disposeResidual(stream.residual)
    stream.residual = { x, source: x.clone() }
  }
  for (const part of parts) {
    const carries = part === parts[0]
    await walk.pass(part, streams, { replace: (dense) => slicePart(dense, spec, { input, output: undefined, carries, epsilon }) })
    await breathe()
  }
  input.dispose()
}

/** The first `width` eigenvectors of sum x'x over all rows, as columns: [D, width]. */
async function principalComponents(streams: readonly Stream[], size: number, width: number): Promise<PlanTensor> {
  const values = new Float32Array(size * width)
  const raw = rawOperations()
  const { vectors, at } = raw ? await runtimeVectors(raw, streams, size) : await ownVectors(streams, size)
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < width; column++) values[row * width + column] = vectors[at(row, column)] ?? 0
  }
  return { values, shape: [size, width] }
}

/** Eigenvectors, and where entry `row` of the vector of the `column`-th largest value stands. */
interface Vectors {
  readonly vectors: ArrayLike<number>
  at(row: number, column: number): number
}

async function runtimeVectors(raw: RawOperations, streams: readonly Stream[], size: number): Promise<Vectors> {
  const moments = new RuntimeMoments(raw)
  try {
    for (const { residual } of streams) {
      moments.add(residual.x)
      await breathe()
    }
    return { vectors: moments.eigenvectors(), at: (row, column) => row * size + size - 1 - column }
  } finally {
    moments.dispose()
  }
}

async function ownVectors(streams: readonly Stream[], size: number): Promise<Vectors> {
  const covariance = new Float64Array(size * size)
  for (const { residual } of streams) {
    addOuterProducts(covariance, residual.x, size)
    await breathe()
  }
  return { vectors: symmetricEigen(covariance, size).vectors, at: (row, column) => column * size + row }
}
