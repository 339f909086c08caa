import { matMul, mean, sub, type Tensor2D, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { disposeResidual } from '#engine/model/decoder.ts'
import { groupWindows } from '#engine/model/forward.ts'
import type { PlanTensors } from '#engine/model/views/plan-tensors.ts'
import { rotatedParts, rotationName, slicePart } from '#engine/model/views/slice.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { breathe, type Stream, Walk } from '#engine/model/walk.ts'
import { blockOf, mlpOf, type Part } from '#engine/model/weights/weights.ts'

interface SliceOptions {
  readonly epsilon: number
  /** Whether the mean of each embedding is subtracted. */
  readonly centre: boolean
}

/**
 * Takes calibration windows through a model whose earlier parts are already sliced, and shows their stream before each rotated part in the
 * full basis. A part reads the sliced stream but adds its output in the full basis, in which the next rotation is found.
 */
export class SlicedStream {
  readonly #view: ModelView
  readonly #windows: Windows
  readonly #options: SliceOptions
  readonly #walk: Walk
  /** The streams before rotated part number `#at`. Empty until the windows are embedded. */
  #streams: Stream[] = []
  #at = 0

  /** Throws `out-of-memory` if the streams of all windows do not fit in the memory for activations. */
  constructor(view: ModelView, windows: Windows, options: SliceOptions) {
    requireRoom(view, windows)
    this.#view = view
    this.#windows = windows
    this.#options = options
    this.#walk = new Walk(view)
  }

  /**
   * Returns the stream before a part, [B*T, D] for each group of windows. It is valid until the next call. `rotations` are those of all
   * earlier parts.
   */
  async inFrontOf(part: Part, rotations: PlanTensors | undefined, signal: AbortSignal): Promise<readonly Tensor2D[]> {
    if (this.#streams.length === 0) await this.#embed()
    const order = rotatedParts(this.#view.spec)
    for (; order[this.#at] !== part; this.#at++) {
      signal.throwIfAborted()
      const name = rotationName(order[this.#at] as Part)
      if (!rotations) throw new Error(`${name} must be found before the stream after it.`)
      const rotation = tensor2d(await rotations.readFloat32(name), rotations.tensors.get(name)?.shape as [number, number])
      await this.#pass(order[this.#at] as Part, rotation)
      rotation.dispose()
    }
    return this.#streams.map(({ residual }) => residual.x)
  }

  dispose(): void {
    for (const { residual } of this.#streams) disposeResidual(residual)
    this.#walk.dispose()
  }

  async #embed(): Promise<void> {
    for (const { ids, batch } of groupWindows(this.#windows)) {
      const stream = await this.#walk.embed(ids, batch)
      this.#streams.push(stream)
      if (this.#options.centre) replaceStream(stream, (x) => tidy(() => sub<Tensor2D>(x, mean(x, 1, true))))
    }
  }

  /** Runs the part, or in a parallel block both parts, that read the rotated stream. Each stream continues in the full basis. */
  async #pass(part: Part, input: Tensor2D): Promise<void> {
    const { spec } = this.#view
    for (const stream of this.#streams) replaceStream(stream, (x) => matMul<Tensor2D>(x, input))
    for (const reading of spec.parallelResidual ? [part, mlpOf(blockOf(part))] : [part]) {
      const slice = { input, output: undefined, carries: reading === part, epsilon: this.#options.epsilon }
      await this.#walk.pass(reading, this.#streams, { replace: (dense) => slicePart(dense, spec, slice) })
      await breathe()
    }
  }
}

function replaceStream(stream: Stream, compute: (x: Tensor2D) => Tensor2D): void {
  const x = compute(stream.residual.x)
  disposeResidual(stream.residual)
  stream.residual = { x, source: x.clone() }
}

function requireRoom({ model, spec }: ModelView, windows: Windows): void {
  const bytes = windows.reduce((sum, { length }) => sum + 4 * length * spec.hidden, 0)
  if (bytes <= model.workspaceBytes) return
  const mebibytes = (round: (value: number) => number, size: number) => round(size / 2 ** 20).toLocaleString('en')
  const most = Math.max(1, Math.floor((model.workspaceBytes / bytes) * windows.length))
  throw new EspalierError(
    'out-of-memory',
    `The hidden states of ${windows.length} windows take ${mebibytes(Math.ceil, bytes)} MiB, but only ${mebibytes(Math.floor, model.workspaceBytes)} MiB are free. Use at most ${most} windows, or give more memory.`,
  )
}
