import { mkdirSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { add, dispose, randomNormal, type Tensor, type Tensor2D } from '@tensorflow/tfjs-core'
import type { Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { openModel } from '#engine/model/model.ts'
import { FrozenHead } from '#engine/model/parts/head/training-loss.ts'
import { advance, disposeResidual } from '#engine/model/parts/part.ts'
import { disposeKept, type KeptPart, partBackward, partForward, type TrainingCall } from '#engine/model/parts/part-backward.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { isAttention, type Part } from '#engine/model/weights/weights.ts'
import { splitTwoStage } from '#engine/pruning/methods/2ssp.ts'
import { LowRank } from '#engine/pruning/recovery/low-rank.ts'
import { type Batch, TrainingPass } from '#engine/pruning/recovery/pass.ts'
import { type KeptMasters, Student } from '#engine/pruning/recovery/student.ts'
import { trainStep } from '#engine/pruning/recovery/training.ts'
import type { Products } from '#engine/tensor/products.ts'
import { type RotaryTables, rotaryTables } from '#engine/tensor/rotary.ts'
import { cacheFolder } from '../../src-main/runtime/places.mjs'
import { Draws, makeModel, smolShape } from '../fixtures/bench-model.ts'
import { Side } from './against/side.ts'
import { findTorchPython } from './against/torch-python.ts'

/**
 * Speed of recovery training, without the dense model's pass: `npm run bench -- recovery [MODEL] [--float32] [--keeps values|shapes] [--torch [--python PATH]]`.
 * Prints tokens a second, and the processor time of a token in each phase of a step; with --torch beside the same training in plain PyTorch, in turns. --keeps trains a change of low rank to weights in memory or read in each pass. MODEL is pruned by half as 2SSP divides it (the first
 * neurons, every other attention: only shapes matter here); without one it is the SmolLM2-shaped model of the other benchmarks.
 */

const [tokens, windowsTogether, batchesPerStep, steps] = [512, 4, 1, 3]
const rows = tokens * windowsTogether
const { values: flags, positionals } = parseArgs({
  options: {
    torch: { type: 'boolean', default: false },
    python: { type: 'string' },
    float32: { type: 'boolean', default: false },
    keeps: { type: 'string', default: 'moments' },
  },
  allowPositionals: true,
})
const [path] = positionals
const products: Products = flags.float32 ? 'float32' : 'bfloat16'

const { title } = await openBackend('tensorflow')
const home = join(cacheFolder(), 'bench')
mkdirSync(home, { recursive: true })
const model = await openModel(path ?? (await makeModel(home, smolShape)))
const plan = halfOf(model.spec)
const { spec } = viewWithPlan(model, plan)
const student = await Student.open(model, spec, plan, undefined, flags.keeps as KeptMasters)
const factors = flags.keeps === 'moments' ? undefined : new LowRank(student)
const trained = factors ?? student
let head: FrozenHead | undefined
await model.vocabulary.forEachHeadChunk((chunk) => {
  head = new FrozenHead(chunk, products)
})
const frozen = head as FrozenHead
console.log(`${title}\n${products}, ${(trained.size / 1e6).toFixed(1)} million weights trained, ${rows} rows together`)
await timePhases()
await timeSteps()

function halfOf({ blocks, ...spec }: DecoderSpec): Plan {
  const { attention, neurons } = splitTwoStage({ blocks, ...spec } as DecoderSpec, 0.5, 1.5)
  const removed = new Set(Array.from({ length: attention }, (_, i) => Math.floor((i * blocks.length) / attention)))
  const kept = Array.from({ length: neurons }, (_, i) => i)
  return { blocks: blocks.map((_, block) => ({ attention: removed.has(block) ? 'removed' : 'kept', mlp: { kept } })) }
}

/** Random ids and dense states: a training reads both. */
function makeBatch(): Batch {
  const draws = new Draws(1)
  const ids = Int32Array.from({ length: rows }, () => draws.integer() % spec.vocabulary)
  return { ids, batch: windowsTogether, dense: randomNormal([rows, spec.hidden]) as Tensor2D }
}

/** Processor time of each phase for one batch, in two rounds of which the second counts. */
async function timePhases(): Promise<void> {
  let spent = new Map<string, number>()
  const measure = async <T>(phase: string, work: () => T | Promise<T>): Promise<T> => {
    const before = process.cpuUsage()
    const result = await work()
    const { user, system } = process.cpuUsage(before)
    spent.set(phase, (spent.get(phase) ?? 0) + (user + system) / rows)
    return result
  }
  const tables = new Map<number, RotaryTables>()
  const call: TrainingCall = {
    spec,
    products,
    rotary: (block) => {
      const own = tables.get(block) ?? rotaryTables(spec.rotary(block), 0, tokens)
      tables.set(block, own)
      return own
    },
  }
  for (const part of student.parts) if (isAttention(part)) call.rotary(part >> 1)
  for (let round = 0; round < 2; round++) {
    spent = new Map()
    const batch = makeBatch()
    const kept = new Map<Part, KeptPart>()
    const embedded = await model.vocabulary.embed(batch.ids)
    let residual = { x: embedded, source: embedded.clone() }
    for (const part of student.parts) {
      const before = residual
      const phase = `${isAttention(part) ? 'attention' : 'MLP'} forward`
      const seen = await measure(phase, () => student.withPart(part, (weights) => partForward(part, weights, before, call)))
      kept.set(part, seen.kept)
      residual = advance(part, residual, seen.x, spec)
    }
    const loss = await measure('head', () => frozen.divergence(residual.x, batch.dense, { scale: 1 / rows }))
    disposeResidual(residual)
    const gradient = loss.gradient as Tensor2D
    const sums = new Map<string, Tensor>()
    for (const part of [...student.parts].reverse()) {
      const own = kept.get(part) as KeptPart
      const phase = `${isAttention(part) ? 'attention' : 'MLP'} backward`
      const { source, gradients } = await measure(phase, () =>
        student.withPart(part, (weights) => partBackward(part, weights, own, gradient, call)),
      )
      await measure('sums of gradients', () => {
        for (const [key, value] of Object.entries(gradients)) {
          const both = add(value, value)
          dispose(value)
          sums.set(`${part} ${key}`, both)
        }
      })
      dispose(source)
      disposeKept(own)
    }
    dispose([gradient, batch.dense, ...sums.values()])
  }
  const total = [...spent.values()].reduce((sum, one) => sum + one, 0)
  for (const [phase, micros] of spent) console.log(`  ${phase}: ${micros.toFixed(0)} µs a token, ${((100 * micros) / total).toFixed(0)} %`)
  console.log(`  together ${total.toFixed(0)} µs a token, AdamW not counted`)
}

/** Whole steps as in training, in turns with PyTorch's if requested; the first ones are for warming up. */
async function timeSteps(): Promise<void> {
  const gradientsOf = factors && ((name: string, gradient: Tensor) => factors.gradientsOf(name, gradient))
  const pass = new TrainingPass(student, model.vocabulary, frozen, { products, keeps: true, gradientsOf })
  const reference = flags.torch ? await openReference() : undefined
  const all = rows * batchesPerStep
  const sums = { ours: [0, 0], torch: [0, 0] }
  const count = (side: keyof typeof sums, step: number, seconds: number, processor: number) => {
    if (step === 0) return
    sums[side] = [(sums[side][0] ?? 0) + seconds, (sums[side][1] ?? 0) + processor]
    const load = loadavg()[0]?.toFixed(1)
    console.log(
      `${side} ${step}: ${(all / seconds).toFixed(0)} tokens a second, ${((1e6 * processor) / all).toFixed(0)} µs of processor time a token, load ${load}`,
    )
  }
  for (let step = 0; step <= steps; step++) {
    const made = Array.from({ length: batchesPerStep }, makeBatch)
    const batches = made.map((batch) => () => Promise.resolve(batch))
    const [start, before] = [performance.now(), process.cpuUsage()]
    await trainStep(trained, pass, batches, all, { step: step + 1, rate: 1e-5 })
    const { user, system } = process.cpuUsage(before)
    count('ours', step, (performance.now() - start) / 1000, (user + system) / 1e6)
    const answer = await reference?.ask({ command: 'step' })
    if (answer) count('torch', step, answer.seconds as number, answer.processor as number)
  }
  reference?.end()
  const [ours, torch] = [sums.ours, sums.torch] as [[number, number], [number, number]]
  if (reference)
    console.log(
      `PyTorch takes ${(torch[0] / ours[0]).toFixed(2)} times as long, ${(torch[1] / ours[1]).toFixed(2)} times the processor time`,
    )
  console.log(`Peak memory ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`)
}

/** The same shape in PyTorch, with the same number of threads. */
async function openReference(): Promise<Side> {
  const side = new Side(await findTorchPython(flags.python), [join(import.meta.dirname, 'against/recovery.py')], process.env)
  const { hidden, heads, keyValueHeads, vocabulary, blocks } = spec
  const own = { attention: blocks.map(({ attention }) => attention), neurons: blocks[0]?.width, hidden, heads, keyValueHeads, vocabulary }
  const threads = Number(process.env.TF_NUM_INTRAOP_THREADS ?? availableParallelism())
  const shape = { ...own, tokens, windows: windowsTogether, batches: batchesPerStep, threads }
  const { title, weights } = await side.ask({ command: 'open', shape })
  console.log(`${title}, ${((weights as number) / 1e6).toFixed(1)} million weights trained`)
  return side
}
