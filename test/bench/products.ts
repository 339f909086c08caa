import { execFileSync } from 'node:child_process'
import { env } from 'node:process'
import { parseArgs } from 'node:util'
import { add, ones, type Rank, randomNormal, slice, type Tensor, type Tensor2D, tidy } from '@tensorflow/tfjs-core'
import { activeBackend, setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import type { Bf16Ops, RowParts } from '#engine/backend/bf16-ops.ts'
import { TensorflowProducts } from '#engine/backend/tensorflow.ts'
import { attendInBf16 } from '#engine/model/parts/attention/attention.ts'
import { mixHeadsByStep } from '#engine/model/parts/attention/plain-attention.ts'
import { logSumExponents } from '#engine/model/parts/head/token-losses.ts'
import { roundTo } from '#engine/model/weights/unpack.ts'
import { gateNeurons } from '#engine/tensor/activation.ts'
import { findBf16Ops } from '#engine/tensor/composed-bf16-ops.ts'
import { normalize } from '#engine/tensor/norm.ts'
import { batchedProduct, project } from '#engine/tensor/products.ts'

/**
 * Rates of the operations with 16-bit operands: `npm run bench -- products [rows]`, or with `--device` those of TensorFlow's own products as
 * a GPU has them, beside float32; without a GPU they run over the processor. Sizes are those of SmolLM2-135M, on a GPU those of a Llama of 7B.
 * A share is that of the best bare product of the same kind; in `processor time`, which other programs disturb less, rates are those of a core.
 */

const { values: flags, positionals } = parseArgs({ options: { device: { type: 'boolean', default: false } }, allowPositionals: true })
const tokens = Number(positionals[0] ?? 2048)
const { name, title } = await openBackend('tensorflow')
const onGpu = name === 'tensorflow-gpu'
/** `side` is the size of the bare product: a GPU reaches its peak only with a large one. */
const { side, hidden, neurons, heads, keyValueHeads, size, vocabulary } = onGpu
  ? { side: 8192, hidden: 4096, neurons: 11008, heads: 32, keyValueHeads: 32, size: 128, vocabulary: 32000 }
  : { side: 2048, hidden: 576, neurons: 1536, heads: 9, keyValueHeads: 3, size: 64, vocabulary: 49152 }

/** One kind of product: the operations of a block, and a bare product. */
interface Kind {
  readonly title: string
  readonly bare: () => Tensor
  readonly operations: Partial<Record<Operation, () => Tensor>>
}

type Operation = keyof typeof counts

const counts = {
  MLP: 6 * tokens * hidden * neurons,
  'queries, keys, values': 2 * tokens * hidden * (heads + 2 * keyValueHeads) * size,
  attention: 2 * tokens * tokens * size * heads,
  'output and sum': 2 * tokens * hidden * hidden,
  head: 2 * tokens * hidden * vocabulary,
}

const matrix = (rows: number, columns: number) => randomNormal<Rank.R2>([rows, columns], 0, 0.5)
const inputs = {
  x: matrix(tokens, hidden),
  source: matrix(tokens, hidden),
  projected: matrix(tokens, (heads + 2 * keyValueHeads) * size),
  cosine: matrix(tokens, size / 2),
  sine: matrix(tokens, size / 2),
  wide: matrix(side, side),
}
const weights = {
  square: matrix(side, side),
  gate: matrix(neurons, hidden),
  up: matrix(neurons, hidden),
  down: matrix(hidden, neurons),
  queries: matrix((heads + 2 * keyValueHeads) * size, hidden),
  output: matrix(hidden, hidden),
  head: matrix(vocabulary, hidden),
}
const norm = { weight: ones<Rank.R1>([hidden]), epsilon: 1e-5, divisor: hidden }
const shape = { heads, keyValueHeads, window: 0 }

console.log(title)
if (flags.device) compareOnDevice()
else {
  const units = findBf16Ops()
  if (!units) throw new Error('This processor has no units for 16-bit operands.')
  measure(bf16Kind(units, 1))
  if (name === 'tensorflow-cpu') {
    measure(bf16Kind(units, 2, true))
    measure(bf16Kind(units, 2))
    measure(bf16Kind(units, 3, true))
  }
}

/** The operations that a GPU has, without our own: the runtime's, in float32 and in 16 bits. */
function compareOnDevice(): void {
  const { fused: _, bf16: _own, ...runtime } = activeBackend()
  const products = new TensorflowProducts('bfloat16')
  setActiveBackend(onGpu ? runtime : { ...runtime, runtimeProducts: () => products })
  console.log(onGpu ? `On the device ${deviceLine('name,compute_cap')}` : 'No GPU answered: the same operations over the processor.')
  measure(floatKind())
  const units = findBf16Ops()
  if (units) measure(bf16Kind(units, 1))
  else console.log('The device has no units for 16-bit operands.')
  if (onGpu) console.log(`Memory of the device, used and in all: ${deviceLine('memory.used,memory.total')}`)
  else console.log(`Peak memory of the process: ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB`)
}

/**
 * Reads fields of the device from NVIDIA's driver. The runtime keeps all memory that it ever took, so memory in use at the end is its peak.
 */
function deviceLine(fields: string): string {
  const visible = env.CUDA_VISIBLE_DEVICES
  return execFileSync('nvidia-smi', [`--query-gpu=${fields}`, '--format=csv,noheader', ...(visible ? ['-i', visible] : [])], {
    encoding: 'utf8',
  }).trim()
}

/** If `exact`, weights are those of a checkpoint in bfloat16. */
function bf16Kind(units: Bf16Ops, parts: RowParts, exact = false): Kind {
  const pack = (weight: Tensor2D) => units.pack(exact ? roundTo(weight, 'BF16') : weight, parts)
  const { x, source, projected, cosine, sine, wide } = inputs
  const [square, gate, up, down] = [weights.square, weights.gate, weights.up, weights.down].map(pack) as [Packed, Packed, Packed, Packed]
  const [queries, output, head] = [weights.queries, weights.output, weights.head].map(pack) as [Packed, Packed, Packed]
  const centred = { ...norm, centred: false }
  return {
    title:
      parts === 1
        ? units.units
        : `${exact ? parts : 3} products of rows in ${parts} parts${exact ? ' with exact weights' : ' and split weights'}`,
    bare: () => units.product(wide, square),
    operations: {
      MLP: () => units.mlp(x, source, { norm: centred, scale: 1, activation: 'silu', gate, up, down }),
      'queries, keys, values': () => units.product(x, queries, { norm: centred }),
      ...(parts < 3 ? { attention: () => attendInBf16(projected, { cosine, sine, size: 2 * cosine.shape[1] }, shape, parts === 2) } : {}),
      'output and sum': () => units.product(source, output, { add: x }),
      head: () => units.exponents(x, head, undefined, undefined),
    },
  }
}

type Packed = ReturnType<Bf16Ops['pack']>

function floatKind(): Kind {
  const { x, source, projected, cosine, sine, wide } = inputs
  const { square, gate, up, down, queries, output, head } = weights
  const normed = () => normalize(x, { ...norm, kind: 'rms' })
  const tables = { cosine, sine, size }
  return {
    title: 'float32',
    bare: () => project(wide, square),
    operations: {
      MLP: () =>
        tidy(() => {
          const input = normed()
          return add(x, project(gateNeurons(project(input, gate), project(input, up), 'silu'), down))
        }),
      'queries, keys, values': () => tidy(() => project(normed(), queries)),
      attention: () => mixHeadsByStep(projected, tables, shape, batchedProduct),
      'output and sum': () => tidy(() => add(x, project(source, output))),
      head: headInSlices,
    },
  }

  /** As in the likelihood: without a matrix of all logits. */
  function headInSlices(): Tensor {
    const step = 8192
    for (let first = 0; first < vocabulary; first += step) {
      tidy(() => void logSumExponents(project(x, slice(head, [first, 0], [Math.min(step, vocabulary - first), -1]))))
    }
    return slice(x, [0, 0], [1, 1])
  }
}

function measure({ title, bare, operations }: Kind): void {
  const best = time(2 * side ** 3, bare)
  console.log(`${title}: ${side}-cubed ${describe(best)}`)
  for (const [operation, run] of Object.entries(operations)) {
    const found = time(counts[operation as Operation], run)
    const core = onGpu ? '' : ` (${((100 * found.core) / best.core).toFixed(0)} % in processor time)`
    console.log(`  ${operation}: ${describe(found)}, ${((100 * found.rate) / best.rate).toFixed(0)} %${core}`)
  }
}

/** The best of ten: GFLOP/s by wall clock, and by processor time. */
function time(operations: number, run: () => Tensor): { rate: number; core: number } {
  const best = { rate: 0, core: 0 }
  for (let repeat = 0; repeat < 10; repeat++) {
    const [start, used] = [performance.now(), process.cpuUsage()]
    finish(run())
    const { user, system } = process.cpuUsage(used)
    best.rate = Math.max(best.rate, operations / (performance.now() - start) / 1e6)
    best.core = Math.max(best.core, operations / (user + system) / 1e3)
  }
  return best
}

/** Waits for a device that computes asynchronously, by reading a value. */
function finish(result: Tensor): void {
  if (onGpu)
    tidy(() =>
      slice(
        result,
        result.shape.map(() => 0),
        result.shape.map(() => 1),
      ).dataSync(),
    )
  result.dispose()
}

function describe({ rate, core }: { rate: number; core: number }): string {
  return onGpu ? `${rate.toFixed(0)} GFLOP/s` : `${rate.toFixed(0)} GFLOP/s (${core.toFixed(0)} in processor time)`
}
