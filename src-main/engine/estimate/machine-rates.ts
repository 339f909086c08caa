import { dispose, type Rank, randomNormal, slice, type Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { MachineRate } from '#contract/machine/engine-state.ts'
import { algebra } from '#engine/algebra/openblas.ts'
import { blockParameters, stackParameters } from '#engine/architectures/count-parameters.ts'
import { readSpec } from '#engine/architectures/index.ts'
import { quantise, quantisedType } from '#engine/backend/ggml/quantised-types.ts'
import { type Checkpoint, rowCount, type TensorInfo } from '#engine/checkpoint/checkpoint.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { finalHidden } from '#engine/model/forward.ts'
import type { Model } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { nextTokens, tokenLosses } from '#engine/model/parts/head/token-losses.ts'
import { disposeResidual } from '#engine/model/parts/part.ts'
import { productsFor, productsForTraining, resolvePrecision } from '#engine/model/precision.ts'
import { denseView, type ModelView } from '#engine/model/views/view.ts'
import { type Stream, Walk } from '#engine/model/walk.ts'
import { WeightStore } from '#engine/model/weights/residency.ts'
import { attentionOf, mlpOf, neededShapes, type Part } from '#engine/model/weights/weights.ts'
import { factoring } from '#engine/pruning/repair/repair-memory.ts'
import { componentOperations, principalComponents } from '#engine/pruning/scores/principal-components.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { Products } from '#engine/tensor/products.ts'

/** Small one-block Llama models. Rates for widths between theirs are interpolated. */
const shapes: readonly SeededShape[] = [
  { hidden: 128, intermediate: 384, heads: 4, vocabulary: 3072 },
  { hidden: 512, intermediate: 1408, heads: 8, vocabulary: 8192 },
]
const [tokens, batch, decoded, covarianceRows] = [256, 8, 12, 8192]
/** Values that are quantised at once, as many as several threads share, and their rate if ggml is missing. */
const [quantised, usualStored] = [2 ** 20, 18]
/**
 * Because a machine's speed varies, each timing runs at least `repeats` times and for `minSeconds`. Slow work runs fewer times: no further
 * run starts after `maxSeconds`.
 */
const repetition = { repeats: 4, minSeconds: 0.1, maxSeconds: 0.5 }

/** Inputs and outputs of timed equations. With many more inputs, a machine solves up to a third faster. */
const [equationInputs, equationOutputs] = [1024, 256]

/** Measures how fast the active runtime does the work of pruning, at a few widths. */
export async function measureRates(widths: readonly SeededShape[] = shapes): Promise<MachineRate[]> {
  const [stored, solved] = [await timeQuantising(), await timeSolving()]
  const rates: MachineRate[] = []
  for (const shape of widths) rates.push({ ...(await measureShape(shape)), stored, solved })
  return rates
}

/** Billions of operations per second in judging and solving equations. */
async function timeSolving(): Promise<number> {
  const random = new PythonRandom(0)
  const size = equationInputs
  const gram = Float64Array.from({ length: size * size }, (_, i) => (i % (size + 1) === 0 ? size : random.random()))
  const outputs = Float64Array.from({ length: equationOutputs * size }, () => random.random())
  const seconds = await fastestSeconds(async () => {
    algebra().timesSymmetric(algebra().solve(gram, 1, outputs, size), gram, size)
  })
  return (factoring(size) + 4 * size ** 2 * equationOutputs) / seconds / 1e9
}

/** Millions of values that are quantised per second. */
async function timeQuantising(): Promise<number> {
  const random = new PythonRandom(0)
  const values = Float32Array.from({ length: quantised }, () => random.random() - 0.5)
  const columns = 256
  const importances = new Float32Array(columns).fill(1)
  const work = () => quantise(quantisedType('Q4_K'), values, columns, importances)
  return fastestSeconds(work).then(
    (seconds) => quantised / seconds / 1e6,
    () => usualStored,
  )
}

async function measureShape(shape: SeededShape): Promise<Omit<MachineRate, 'stored' | 'solved'>> {
  const model = await seededModel(shape)
  const view = denseView(model)
  const walk = new Walk(view)
  const ids = seededIds(shape.vocabulary, tokens * batch)
  const few = await walk.embed(ids.subarray(0, tokens), 1)
  const many = await walk.embed(ids, batch)
  try {
    const { spec } = model
    const parameters = blockParameters(spec, 0)
    const rated = (operations: number, time: (stream: Stream) => Promise<number>) => fitCalls(tokens * operations, [few, many], time)
    const attention = await rated(2 * parameters.attention + 2 * tokens * shape.hidden, (stream) => timePart(walk, stream, attentionOf(0)))
    const mlp = await rated(2 * parameters.mlp, (stream) => timePart(walk, stream, mlpOf(0)))
    const head = await rated(2 * shape.vocabulary * shape.hidden, (stream) =>
      fastestSeconds(() => scoreStream(view, stream, ids.subarray(0, stream.batch * tokens))),
    )
    // With ggml, neither `auto` nor a recovery uses 16-bit products, and `mixed` gains little.
    const bfloat16 = productsForTraining() === 'bfloat16' ? await timesAsFast(view, walk, many, 'bfloat16') : 1
    return {
      hidden: shape.hidden,
      attention: attention.rate,
      mlp: mlp.rate,
      head: head.rate,
      ...(await ratesOfComponents(shape)),
      call: (attention.seconds + mlp.seconds) / 2,
      thirds: productsFor('float32').passes === 'thirds' ? await timesAsFast(view, walk, many, 'thirds') : 1,
      split: productsFor('mixed').passes === 'split' ? await timesAsFast(view, walk, many, 'split') : 1,
      bfloat16,
      auto: resolvePrecision('auto', spec) === 'mixed' ? bfloat16 : 1,
      decoded: (4 * (stackParameters(spec) + shape.vocabulary * shape.hidden)) / (await timeToken(view, ids)) / 1e9,
    }
  } finally {
    disposeResidual(few.residual)
    disposeResidual(many.residual)
    walk.dispose()
    await model.close()
  }
}

/**
 * Billions of operations per second, and fixed seconds per call. Times one call with one window of `operations` and one call with a batch
 * of windows.
 */
async function fitCalls(
  operations: number,
  [few, many]: readonly Stream[],
  time: (stream: Stream) => Promise<number>,
): Promise<{ rate: number; seconds: number }> {
  const [one, all] = [await time(few as Stream), await time(many as Stream)]
  // The lower bounds keep noise from making work or calls free.
  const rate = ((batch - 1) * operations) / Math.max(all - one, all / 2)
  return { rate: rate / 1e9, seconds: Math.max(one - operations / rate, one / 20) }
}

/** The time of the fastest of a few runs, because other programs can only make one slower. The first run is a warm-up and does not count. */
async function fastestSeconds(work: () => Promise<unknown>): Promise<number> {
  await work()
  const seconds: number[] = []
  let sum = 0
  while (sum < repetition.minSeconds || (seconds.length < repetition.repeats && sum < repetition.maxSeconds)) {
    const start = performance.now()
    await work()
    const last = (performance.now() - start) / 1000
    seconds.push(last)
    sum += last
  }
  return Math.min(...seconds)
}

function timePart(walk: Walk, { batch, tokens, residual }: Stream, part: Part): Promise<number> {
  return fastestSeconds(async () => {
    const copy = { batch, tokens, residual: { x: residual.x.clone(), source: residual.source.clone() } }
    await walk.pass(part, [copy])
    // Reading a value waits for an asynchronous runtime to finish.
    slice(copy.residual.x, [0, 0], [1, 1]).dataSync()
    disposeResidual(copy.residual)
  })
}

/** How many times faster the block is with other products than with float32's. */
async function timesAsFast(view: ModelView, float32Walk: Walk, stream: Stream, products: Exclude<Products, 'float32'>): Promise<number> {
  const walk = new Walk(view, products)
  const timeBlock = async (by: Walk) => (await timePart(by, stream, attentionOf(0))) + (await timePart(by, stream, mlpOf(0)))
  try {
    return (await timeBlock(float32Walk)) / (await timeBlock(walk))
  } finally {
    walk.dispose()
  }
}

async function scoreStream(view: ModelView, { residual, tokens }: Stream, ids: Int32Array): Promise<void> {
  const hidden = finalHidden(view, residual.x)
  await tokenLosses(view.model.vocabulary, hidden, nextTokens(ids, tokens))
  hidden.dispose()
}

/**
 * Rates of computing a covariance in float64 (`double`) and its eigenvectors (`vectors`), in billions of operations per second. Times both
 * together, once for few rows and once for many.
 */
async function ratesOfComponents({ hidden }: SeededShape): Promise<{ double: number; vectors: number }> {
  const [few, many] = [tokens, covarianceRows].map((rows) => randomNormal<Rank.R2>([rows, hidden])) as [Tensor2D, Tensor2D]
  const time = (x: Tensor2D) => fastestSeconds(() => principalComponents([x], hidden, hidden))
  const [one, all] = [await time(few), await time(many)]
  dispose([few, many])
  const operations = componentOperations.covariance(tokens, hidden)
  const double = (componentOperations.covariance(covarianceRows, hidden) - operations) / Math.max(all - one, all / 10)
  return { double: double / 1e9, vectors: componentOperations.vectors(hidden) / Math.max(one - operations / double, one / 10) / 1e9 }
}

async function timeToken(view: ModelView, ids: Int32Array): Promise<number> {
  const session = new DecodingSession(view)
  try {
    await session.feed(ids.subarray(0, tokens / 2), 1)
    let next = 0
    return await fastestSeconds(() => session.feed(Int32Array.of(at(ids, next++ % decoded)), 1))
  } finally {
    session.dispose()
  }
}

function seededIds(vocabulary: number, count: number): Int32Array {
  const random = new PythonRandom(0)
  return Int32Array.from({ length: count }, () => random.integer(0, vocabulary - 1))
}

interface SeededShape {
  readonly hidden: number
  readonly intermediate: number
  readonly heads: number
  readonly vocabulary: number
}

/** A one-block model that exists only in memory. Its weights are arbitrary finite numbers that bfloat16 holds exactly. */
async function seededModel({ hidden, intermediate, heads, vocabulary }: SeededShape): Promise<Model> {
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    num_hidden_layers: 1,
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_attention_heads: heads,
    num_key_value_heads: heads / 2,
    vocab_size: vocabulary,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: true,
  }
  const spec = readSpec(config)
  const checkpoint = memoryCheckpoint(config, neededShapes(spec))
  const store = new WeightStore(checkpoint, spec, 2 ** 30)
  const opened = await Vocabulary.open(checkpoint, spec, true)
  return {
    name: 'seeded',
    path: '',
    quickKey: '',
    checkpoint,
    spec,
    store,
    vocabulary: opened,
    products: productsFor('float32'),
    freeBytes: 2 ** 31,
    memoryBytes: 2 ** 31,
    workspaceBytes: 2 ** 29,
    kept: new Map(),
    async close() {
      store.dispose()
      opened.dispose()
    },
  }
}

function memoryCheckpoint(config: Record<string, unknown>, shapesOf: ReturnType<typeof neededShapes>): Checkpoint {
  const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)
  const tensors = new Map(
    [...shapesOf].map(([name, shape]): [string, TensorInfo] => [name, { name, dtype: 'F32', shape, bytes: 4 * sizeOf(shape) }]),
  )
  const values = async (name: string, rows?: { first: number; count: number }): Promise<Float32Array> => {
    const shape = tensors.get(name)?.shape ?? []
    const count = rows ? rows.count * (sizeOf(shape) / rowCount(shape)) : sizeOf(shape)
    if (shape.length === 1) return new Float32Array(count).fill(1)
    const scale = 2 ** -Math.round(7 + Math.log2(shape[1] ?? 1) / 2)
    return Float32Array.from({ length: count }, (_, i) => scale * (((i * 7919) % 255) - 127))
  }
  return {
    path: '',
    config,
    decimals: new Set(),
    tensors,
    readFloat32: values,
    read: async (name, rows) => new Uint8Array((await values(name, rows)).buffer),
    close: async () => undefined,
  }
}
