import { EspalierError } from '#contract/errors.ts'
import type { MixedTypes } from '#contract/pruning/mixed-types.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { columnCount } from '#engine/checkpoint/checkpoint.ts'
import { bytesOfValues } from '#engine/checkpoint/gguf/block-layout.ts'
import type { Windows } from '#engine/data/windows.ts'
import { cardRoom } from '#engine/export/gguf/gguf.ts'
import { ggufSources } from '#engine/export/gguf/gguf-file.ts'
import { type Importances, importancesByName } from '#engine/export/gguf/importances.ts'
import { findMix } from '#engine/export/gguf/mix.ts'
import type { Planned } from '#engine/export/pieces.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { measureSensitivities, readSensitivities, sensitivityTensors } from '#engine/pruning/gates/sensitivity.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { chooseTypes } from './choose-types.ts'
import { type PricedTensor, priceTensor, sensitivitiesByName, type TypeChoice, typesFor } from './price-list.ts'

export const measuringSensitivity = 'Measuring sensitivity'
export const pricingTypes = 'Pricing weight types'

const sensitivityStep: StepKind = { version: 1 }
const pricesStep: StepKind = { version: 1 }
/** Tensors whose prices are stored together. A killed run prices at most this many again. */
const tensorsPerStore = 8

/** Matrices have the shapes of a file of mixed types. The bytes of these do not depend on its size. */
const mix = findMix('MIXED:1')

interface MixRequest {
  readonly planned: Planned
  /** The view of the same plan. */
  readonly view: ModelView
  readonly windows: Windows
  readonly importances: Importances
  /** The most bytes of the whole file, and how many it has with a plan. */
  readonly bytes: number
  readonly bytesOf: (plan: Plan) => Promise<number>
  readonly run: Pick<MethodRun, 'seed' | 'signal' | 'step' | 'tensorStep' | 'progress'>
}

/** A plan with the types of its matrices, and the prices that they were chosen by. */
interface Mixed {
  readonly plan: Plan
  readonly mixed: MixedTypes
}

/**
 * Chooses the type of each matrix of a GGUF file so that the file has at most this many bytes and the estimated divergence from the
 * unquantised model is least.
 */
export async function mixTypes({ planned, view, windows, importances, bytes, bytesOf, run }: MixRequest): Promise<Mixed> {
  const { plan } = planned
  const tensors = await price({ planned, view, windows, importances, run })
  const withTypes = (chosen: ReadonlyMap<string, TypeChoice>): Plan => {
    return { ...plan, types: Object.fromEntries([...chosen].map(([name, { type }]) => [name, type])) }
  }
  const excess = async (chosen: ReadonlyMap<string, TypeChoice>) => (await bytesOf(withTypes(chosen))) - (bytes - cardRoom)
  const smallest = chooseTypes(tensors, 0)
  let room = bytes - cardRoom - (await bytesOf(withTypes(smallest))) + sumOf(smallest)
  let chosen = chooseTypes(tensors, room)
  // Tensors begin at multiples of 32 bytes, so a file may have a little more than its parts.
  for (let over = await excess(chosen); over > 0 && sumOf(chosen) > sumOf(smallest); over = await excess(chosen)) {
    room = Math.min(room, sumOf(chosen)) - over
    chosen = chooseTypes(tensors, room)
  }
  return {
    plan: withTypes(chosen),
    mixed: {
      bytes,
      divergence: [...chosen.values()].reduce((sum, { price }) => sum + price, 0),
      tokens: windows.reduce((sum, { length }) => sum + length, 0),
      tensors,
    },
  }
}

const sumOf = (chosen: ReadonlyMap<string, TypeChoice>): number => [...chosen.values()].reduce((sum, { bytes }) => sum + bytes, 0)

/**
 * Throws `infeasible` if the model has no gradients to choose by, or with the range of sizes if no types make a file that small. Reads no
 * weights.
 */
export async function requireMixedTypes(planned: Planned, bytes: number, bytesOf: (plan: Plan) => Promise<number>): Promise<void> {
  const { spec } = planned.model
  if (spec.neuronLimit || spec.projectionLimit !== undefined || spec.blocks.some((_, block) => spec.block(block).sinks))
    throw new EspalierError(
      'infeasible',
      `Mixed types are chosen by gradients, which Espalier does not compute through the attention of a ${spec.family} model. Choose a type.`,
    )
  const { target, tensors } = ggufSources(planned, mix)
  const matrices = tensors.filter(({ name, shape }) => isMatrix(name, shape, target.names.embedding))
  const sizeWith = async (pick: (...sizes: number[]) => number): Promise<number> => {
    const types = matrices.map(({ name, shape }) => {
      const columns = columnCount(shape)
      const candidates = typesFor(columns, name.startsWith('blk.'))
      const size = pick(...candidates.map((type) => bytesOfValues(type, columns)))
      return [name, candidates.find((type) => bytesOfValues(type, columns) === size)?.name ?? 'F16']
    })
    return bytesOf({ ...planned.plan, types: Object.fromEntries(types) })
  }
  const least = (await sizeWith(Math.min)) + cardRoom
  if (bytes >= least) return
  const most = await sizeWith(Math.max)
  const [asked, from, to] = [bytes, least, most].map((size) => `${(size / 1e6).toFixed(1)} MB`)
  throw new EspalierError(
    'infeasible',
    `No types make a file of ${asked}: this model's files of mixed types have ${from} to ${to}. Choose a size in that range.`,
    { range: { least, most } },
  )
}

/** Whether a tensor of a GGUF file is a matrix of attention, an MLP, the embedding or the head. */
export const isMatrix = (name: string, shape: readonly number[], embedding: string): boolean =>
  shape.length === 2 &&
  (name === embedding || name === 'output.weight' || /^blk\.\d+\.(attn_(q|k|v|qkv|output)|ffn_(gate|up|down))\.weight$/.test(name))

/** The prices of all types of the matrices that have a sensitivity. */
async function price({
  planned,
  view,
  windows,
  importances,
  run,
}: Pick<MixRequest, 'planned' | 'view' | 'windows' | 'importances' | 'run'>): Promise<PricedTensor[]> {
  const { seed, signal } = run
  const on = { plan: planned.plan, windows, seed }
  const { tensors: stored } = await run.tensorStep({ kind: sensitivityStep, label: 'sensitivity of weights', on }, async () => {
    const random = new PythonRandom(seed)
    const report = {
      signal,
      progress: (done: number, total: number) => run.progress(measuringSensitivity, done, total, 'windows'),
    }
    return { tensors: sensitivityTensors(await measureSensitivities(view, windows, () => random.random(), report)) }
  })
  const { target, tensors } = ggufSources(planned, mix)
  const sensitivities = sensitivitiesByName(view.spec, tensors, target, readSensitivities(stored))
  const weighed = importancesByName(tensors, target, importances)
  const tokens = windows.reduce((sum, { length }) => sum + length, 0)
  const matrices = tensors.filter(({ name, shape }) => isMatrix(name, shape, target.names.embedding) && sensitivities.has(name))
  const priced: PricedTensor[] = []
  for (let first = 0; first < matrices.length; first += tensorsPerStore) {
    const some = matrices.slice(first, first + tensorsPerStore)
    const label = `prices of types, ${some[0]?.name} to ${some.at(-1)?.name}`
    const own = await run.step(
      { kind: pricesStep, label, on: { ...on, importances: importances.texts, tokens: importances.tokens } },
      async () => {
        const found: PricedTensor[] = []
        for (const [index, tensor] of some.entries()) {
          signal.throwIfAborted()
          run.progress(pricingTypes, first + index, matrices.length, 'matrices')
          found.push(await priceTensor(tensor, sensitivities.get(tensor.name) ?? [], tokens, weighed.get(tensor.name)))
        }
        return found
      },
    )
    priced.push(...own)
  }
  run.progress(pricingTypes, matrices.length, matrices.length, 'matrices')
  return priced
}
