/**
 * Rates of the operations with 16-bit operands at the sizes of SmolLM2-135M: `node test/bench/products.ts [rows]`. A share is that of the best
 * bare product of the same kind; in `processor time`, which other programs disturb less, rates are those of one core.
 */
import { ones, type Rank, randomNormal, type Tensor, type Tensor2D } from '@tensorflow/tfjs-core'
import { openBackend } from '#engine/backend/backend.ts'
import { activations, type FusedOperations } from '#engine/backend/fused.ts'
import type { HalfOperations } from '#engine/backend/halves.ts'

const tokens = Number(process.argv[2] ?? 2048)
const [hidden, neurons, heads, keyValueHeads, size, vocabulary] = [576, 1536, 9, 3, 64, 49152]
const backend = await openBackend('tensorflow')
const { halves } = backend.fused as FusedOperations
if (!halves) throw new Error('This processor has no units for 16-bit operands.')
console.log(backend.title)

const matrix = (rows: number, columns: number) => randomNormal<Rank.R2>([rows, columns], 0, 0.5)
const [x, source] = [matrix(tokens, hidden), matrix(tokens, hidden)]
const projected = matrix(tokens, (heads + 2 * keyValueHeads) * size)
const [cosine, sine] = [matrix(tokens, size / 2), matrix(tokens, size / 2)]
const norm = { weight: ones<Rank.R1>([hidden]), epsilon: 1e-5, divisor: hidden, centred: false }
const shape = { heads, keyValueHeads, window: 0 }

for (const split of [false, true]) measure(halves, split)

function measure(units: HalfOperations, split: boolean): void {
  const pack = (rows: number, columns: number) => units.pack(matrix(rows, columns), split)
  const wide = matrix(2048, 2048)
  const [square, gate, up, down] = [pack(2048, 2048), pack(neurons, hidden), pack(neurons, hidden), pack(hidden, neurons)]
  const [queries, output, head] = [pack(projected.shape[1], hidden), pack(hidden, hidden), pack(vocabulary, hidden)]
  const bare = time(2 * 2048 ** 3, () => units.product(wide, square))
  const attention = () => units.attention(projected, cosine, sine, shape, split)
  const rows: [string, number, () => Tensor2D][] = [
    ['MLP', 6 * tokens * hidden * neurons, () => units.mlp(x, source, { norm, scale: 1, activation: activations.silu, gate, up, down })],
    ['queries, keys, values', 2 * tokens * hidden * projected.shape[1], () => units.product(x, queries, { norm })],
    ['attention', 2 * tokens * tokens * size * heads, attention],
    ['output and sum', 2 * tokens * hidden * hidden, () => units.product(source, output, { add: x })],
    ['head', 2 * tokens * hidden * vocabulary, () => units.exponents(x, head, undefined, undefined)],
  ]
  console.log(`${split ? 'three products of split operands' : 'bfloat16'}: 2048-cubed ${describe(bare)}`)
  for (const [name, operations, run] of rows) {
    const found = time(operations, run)
    console.log(
      `  ${name}: ${describe(found)}, ${((100 * found.rate) / bare.rate).toFixed(0)} % (${((100 * found.core) / bare.core).toFixed(0)} % in processor time)`,
    )
  }
}

/** The best of ten: GFLOP/s by the clock, and by processor time. */
function time(operations: number, run: () => Tensor): { rate: number; core: number } {
  const best = { rate: 0, core: 0 }
  for (let repeat = 0; repeat < 10; repeat++) {
    const [start, used] = [performance.now(), process.cpuUsage()]
    run().dispose()
    const { user, system } = process.cpuUsage(used)
    best.rate = Math.max(best.rate, operations / (performance.now() - start) / 1e6)
    best.core = Math.max(best.core, operations / (user + system) / 1e3)
  }
  return best
}

function describe({ rate, core }: { rate: number; core: number }): string {
  return `${rate.toFixed(0)} GFLOP/s (${core.toFixed(0)} in processor time)`
}
