import { matMul, mean, sub, type Tensor2D, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { z } from 'zod'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Spectrum } from '#contract/runs/run.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { groupWindows } from '#engine/model/forward.ts'
import { disposeResidual } from '#engine/model/parts/part.ts'
import type { PlanTensors } from '#engine/model/views/plan-tensors.ts'
import { embeddingRotationName, rotatedParts, rotationName, slicePart } from '#engine/model/views/slice.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { breathe, type Stream, Walk } from '#engine/model/walk.ts'
import { blockOf, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import { count, defineMethod, type MethodRun, stackPasses, watched } from '#engine/pruning/method.ts'
import { densePlan, reachedSparsity } from '#engine/pruning/plan.ts'
import { componentOperations, principalComponents } from '#engine/pruning/scores/principal-components.ts'
import type { StepKind } from '#engine/steps/step-name.ts'

/**
 * SliceGPT (arXiv 2401.15024): rotates the stream between submodules to its principal components and cuts off the last ones.
 *
 * `compatible` follows the 2SSP reference: the mean of each embedding is subtracted, and norms use an epsilon of 1e-5 in every family.
 * Repaired: the family comes from the model and not from its name, and every supported family works. The reached sparsity is reported, and
 * the width can be solved for it. Left out because they change nothing: the random rotation of the kept coordinates and the last PCA.
 */
const options = z.object({
  windows: count(256, {
    title: 'Windows',
    unit: 'windows',
    help: 'Calibration windows used to find the principal components of the stream.',
  }),
  target: z.enum(['nominal', 'reached']).default('nominal').meta({
    title: 'Target',
    help: 'What the sparsity means: the removed share of the hidden width, as in the reference (nominal), or of the parameters (reached).',
  }),
  widthMultiple: count(8, {
    title: 'Width multiple',
    unit: 'channels',
    help: 'The width kept is a multiple of this. Target nominal rounds it down; target reached takes the width with the nearest sparsity.',
  }),
  compatible: z.boolean().default(true).meta({
    title: 'As the reference',
    help: 'Like the 2SSP reference, subtracts the mean of each embedding and uses a norm epsilon of 1e-5 in every family. Without it, only families with layer norms subtract the mean, and each model keeps its epsilon.',
  }),
})

type Options = z.infer<typeof options>

const findingComponents = 'Finding principal components'

export const slicegpt = defineMethod({
  id: 'slicegpt',
  order: 9,
  title: 'SliceGPT',
  paper: '2401.15024',
  summary: 'Rotates the stream between submodules to its principal components and cuts off the weakest.',
  unit: 'width',
  options,
  refitProblem: () => 'its stream has another basis',
  windows: ({ windows }) => windows,
  range(spec, { widthMultiple, target }) {
    const narrowest = Math.min(widthMultiple, spec.hidden)
    if (normalizesOutputs(spec) || spec.router) return { least: 0, most: 0 }
    return { least: 0, most: target === 'reached' ? reachedAt(spec, narrowest) : 1 - narrowest / spec.hidden }
  },
  outline(spec, { sparsity }, chosen) {
    const reached = sparsity === 0 ? 0 : reachedAt(spec, widthFor(spec, sparsity, chosen))
    return { attentionRemoved: null, blocksRemoved: null, neuronsRemovedPerBlock: null, reached }
  },
  work(spec, { sparsity }, chosen, available) {
    if (sparsity === 0) return []
    const windows = Math.min(available, chosen.windows)
    const parts = rotatedParts(spec).length
    // Later parts run on a sliced stream. Matrices that read it shrink; those that write to it do not.
    const left = 1 - (2 / 3) * (1 - widthFor(spec, sparsity, chosen) / spec.hidden)
    return [
      {
        phase: findingComponents,
        passes: stackPasses(spec.blocks.length, watched * windows * left),
        float64Operations: (tokens) => parts * componentOperations.covariance(windows * tokens, spec.hidden),
        eigenvectorOperations: parts * componentOperations.vectors(spec.hidden),
      },
    ]
  },
  boundingPlans: (spec, { sparsity }, chosen) => [
    sparsity === 0 ? densePlan(spec) : { ...densePlan(spec), slice: { width: widthFor(spec, sparsity, chosen) } },
  ],
  async plan({ view, calibration, budget, options: chosen, run }) {
    if (budget.sparsity === 0) return { plan: densePlan(view.spec), decisions: [], notes: [] }
    requireSliceable(view.spec)
    const width = widthFor(view.spec, budget.sparsity, chosen)
    const epsilon = chosen.compatible ? 1e-5 : view.spec.norm.epsilon
    const centre = chosen.compatible || view.spec.norm.kind === 'layer'
    const windows = calibration.slice(0, chosen.windows)
    const tensors = await findRotations(view, windows, { width, epsilon, centre }, run)
    const plan = { ...densePlan(view.spec), slice: { width, epsilon } }
    const reached = reachedAt(view.spec, width)
    const notes = [
      `Hidden width ${width} of ${view.spec.hidden}: ${percent(1 - width / view.spec.hidden)} cut, ${percent(reached)} of the block stack's parameters removed.`,
    ]
    return { plan, decisions: [], notes, tensors }
  },
})

const rotationStep: StepKind = { version: 1 }

interface RotationOptions {
  /** Remaining coordinates, d of D. */
  readonly width: number
  readonly epsilon: number
  /** Whether the mean of each embedding is subtracted. */
  readonly centre: boolean
}

/**
 * Finds the rotations [D, d]. The one before each part is the principal components of the stream (Section 3.3 of the paper) in a model
 * whose earlier parts are already sliced, because each part needs its own basis. Embeddings use the first rotation. Each rotation is one
 * step.
 */
export async function findRotations(
  view: ModelView,
  windows: Windows,
  { width, epsilon, centre }: RotationOptions,
  run: MethodRun,
): Promise<StoredTensors> {
  const { spec } = view
  const stream = new SlicedStream(view, windows, { epsilon, centre })
  const parts = rotatedParts(spec)
  let rotations: StoredTensors | undefined
  try {
    for (const [position, part] of parts.entries()) {
      const asked = { kind: rotationStep, label: `rotation ${part}`, on: { windows, width, epsilon, centre, part } }
      const { tensors, spectrum } = await run.tensorStep(asked, async () => {
        const { values, eigenvalues } = await principalComponents(await stream.inFrontOf(part, rotations, run.signal), spec.hidden, width)
        const shape = [spec.hidden, width]
        const first =
          position === 0 ? { [embeddingRotationName]: { values: centre ? withoutColumnMeans(values, width) : values, shape } } : {}
        const tensors = new Map(Object.entries({ [rotationName(part)]: { values, shape }, ...first }))
        return { tensors, spectrum: spectrumOf(part, eigenvalues, width) }
      })
      if (spectrum) run.emit({ type: 'spectrum', spectrum })
      rotations = rotations ? StoredTensors.join(rotations, tensors) : tensors
      run.progress(findingComponents, position + 1, parts.length, 'submodules')
    }
  } finally {
    stream.dispose()
  }
  return rotations as StoredTensors
}

/** How many eigenvalues are reported for a part, evenly spread. */
const reportedValues = 64

function spectrumOf(part: Part, eigenvalues: Float64Array, kept: number): Spectrum {
  const of = eigenvalues.length
  const sum = eigenvalues.reduce((total, value) => total + value, 0)
  const share = (value: number) => (sum > 0 ? Math.max(0, value) / sum : 0)
  const count = Math.min(reportedValues, of)
  const places = Array.from({ length: count }, (_, i) => Math.round((i * (of - 1)) / Math.max(1, count - 1)))
  const held = eigenvalues.subarray(0, kept).reduce((total, value) => total + share(value), 0)
  return { part, of, at: places, values: places.map((index) => share(at(eigenvalues, index))), kept, held }
}

/**
 * Subtracts the mean of each column. Rotating embeddings with the result equals subtracting the mean of each embedding and then rotating
 * it.
 */
function withoutColumnMeans(values: Float32Array, columns: number): Float32Array {
  const rows = values.length / columns
  const means = new Float64Array(columns)
  for (const [i, value] of values.entries()) means[i % columns] = at(means, i % columns) + value / rows
  return values.map((value, i) => value - at(means, i % columns))
}

/** Whether norms follow the outputs of submodules. Such a norm needs the length over all channels, which a sliced stream does not have. */
function normalizesOutputs(spec: DecoderSpec): boolean {
  return spec.blocks.some((_, index) => spec.block(index).attentionOutputNorm ?? spec.block(index).mlpOutputNorm)
}

/**
 * Throws `infeasible` if the model cannot be sliced. Every block needs its attention and its MLP, because a stream that skips a removed
 * part would miss a change of basis.
 */
function requireSliceable(spec: DecoderSpec): void {
  if (spec.router) {
    throw new EspalierError(
      'infeasible',
      `SliceGPT cannot slice a ${spec.family} model: a router would choose other experts in a sliced model. Choose another method.`,
    )
  }
  if (normalizesOutputs(spec)) {
    throw new EspalierError(
      'infeasible',
      `SliceGPT cannot slice a ${spec.family} model: the norms on its submodule outputs need all hidden channels. Choose another method.`,
    )
  }
  if (spec.blocks.some((layout) => !layout.attention || layout.width === 0)) {
    throw new EspalierError(
      'infeasible',
      'SliceGPT needs all submodules, but some of this model are already removed. Start from the dense model.',
    )
  }
}

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`

const reachedAt = (spec: DecoderSpec, width: number): number => reachedSparsity(spec, { ...densePlan(spec), slice: { width } })

function widthFor(spec: DecoderSpec, sparsity: number, { target, widthMultiple }: Options): number {
  if (target === 'nominal') {
    const width = Math.floor((1 - sparsity) * spec.hidden)
    return requireWidth(width - (width % widthMultiple), sparsity, spec, widthMultiple)
  }
  const widths = Array.from({ length: Math.floor(spec.hidden / widthMultiple) }, (_, i) => (i + 1) * widthMultiple)
  const miss = (width: number) => Math.abs(reachedAt(spec, width) - sparsity)
  return requireWidth(
    widths.reduce((best, width) => (miss(width) < miss(best) ? width : best), at(widths, 0)),
    sparsity,
    spec,
    widthMultiple,
  )
}

function requireWidth(width: number, sparsity: number, spec: DecoderSpec, multiple: number): number {
  if (width > 0) return width
  throw new EspalierError(
    'infeasible',
    `Sparsity ${sparsity} leaves no multiple of ${multiple} of the hidden width ${spec.hidden}. Choose at most ${(1 - multiple / spec.hidden).toFixed(4)} or a smaller width multiple.`,
  )
}

interface SliceOptions {
  readonly epsilon: number
  /** Whether the mean of each embedding is subtracted. */
  readonly centre: boolean
}

/**
 * Takes calibration windows through a model whose earlier parts are already sliced, and shows their stream before each rotated part in the
 * full basis. A part reads the sliced stream but adds its output in the full basis, in which the next rotation is found.
 */
class SlicedStream {
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
