import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { memory } from '@tensorflow/tfjs-core'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { activeParameters, blockParameters } from '#engine/architectures/count-parameters.ts'
import { type MixtureTensors, mlpProjections, type RouterKind } from '#engine/architectures/spec.ts'
import { setActiveBackend } from '#engine/backend/active.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { fromFloat32 } from '#engine/checkpoint/dtypes.ts'
import { openFolder } from '#engine/checkpoint/safetensors/folder.ts'
import { writeSafetensors } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { measureImportances } from '#engine/export/gguf/importances.ts'
import { runWindows } from '#engine/model/forward.ts'
import { type Model, openModel, withProducts } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { productsOnUnits } from '#engine/model/precision.ts'
import { expertDownName } from '#engine/model/views/plan-tensors.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { dividePart, mlpOf, partNames, partSize, presentParts } from '#engine/model/weights/weights.ts'
import { expertStatistics } from '#engine/pruning/experts/expert-statistics.ts'
import { gateCorrections } from '#engine/pruning/experts/gate-correction.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { expertNorms } from '#engine/pruning/scores/mlp-scores.ts'
import { findBf16Ops } from '#engine/tensor/composed-bf16-ops.ts'
import { expectedOf, mixtureModels, packedMixture, referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'
import { recordedRun } from '../pruning/running.ts'
import { greedily, logitsOf, relativeError } from './logits.ts'

interface Recorded {
  readonly dense: { readonly ppl_test_f64: number; readonly logits_at: Record<string, number[]> }
  readonly params: {
    readonly mixer_per_block: readonly number[]
    readonly expert: number
    readonly router: number
    readonly shared: number
    readonly total: number
    readonly active: number
  }
  readonly greedy: { readonly prompt: number[]; readonly ids: number[] }
  readonly router: { readonly block: number; readonly positions: number[]; readonly top_k: number[][]; readonly weights: number[][] }
}

/** For each row, its experts and their factors, largest factor first. */
function choicesOf(experts: readonly { expert: number; rows: Int32Array; gates: Float32Array }[], row: number): [number, number][] {
  const found = experts.flatMap(({ expert, rows, gates }): [number, number][] => {
    const at = rows.indexOf(row)
    return at < 0 ? [] : [[expert, gates[at] as number]]
  })
  return found.sort(([, one], [, other]) => other - one)
}

/** DeltaNets normalise small inputs, which amplifies errors. */
const logitBound = (name: string): number => (name === 'qwen3_5_moe' ? 3e-4 : 1e-4)

const backend = await openBackend(testedBackend)
beforeAll(() => setActiveBackend(backend))

describe('mixtures of experts against transformers', () => {
  const spelled = mixtureModels.flatMap((name) => ['config.json', 'config-hub.json'].map((config) => ({ name, config })))
  it.each(spelled)('give the logits, perplexity, choices, counts and greedy answer of $name by $config', async ({ name, config }) => {
    const recorded = await expectedOf<Recorded>(name)
    const [calibration, test] = [await referenceWindows('calibration'), await referenceWindows('test')]
    const before = memory().numTensors
    const model = await openModel(await referenceModel(name, config))
    const view = denseView(model)
    const logits = await logitsOf(view, calibration[0] as Int32Array)
    for (const [position, expected] of Object.entries(recorded.dense.logits_at)) {
      const own = logits[Number(position)] ?? []
      const most = expected.reduce((max, value, i) => Math.max(max, Math.abs(value - (own[i] ?? Number.NaN))), 0)
      expect(most, `position ${position}`).toBeLessThan(logitBound(name))
    }
    // For other spellings the logits are enough.
    if (config === 'config.json') {
      const { perplexity: found } = await perplexity(view, test.slice(0, 16))
      expect(Math.abs(found / recorded.dense.ppl_test_f64 - 1)).toBeLessThan(1e-5)
      expect(await greedily(model, recorded.greedy.prompt, recorded.greedy.ids.length)).toEqual(recorded.greedy.ids)
    }
    const { block, positions, top_k: numbers, weights } = recorded.router
    await runWindows(view, calibration.slice(0, 1), {
      observe(_group, part, { experts }) {
        if (part !== mlpOf(block)) return
        for (const [index, position] of positions.entries()) {
          const own = choicesOf(experts ?? [], position)
          const sorted = [...(weights[index] ?? [])].sort((a, b) => b - a)
          expect(new Set(own.map(([expert]) => expert))).toEqual(new Set(numbers[index]))
          for (const [at, [, gate]] of own.entries()) expect(gate).toBeCloseTo(sorted[at] as number, 5)
        }
      },
    })
    const { spec } = model
    const mixture = spec.block(spec.blocks.length - 1).mixture as MixtureTensors
    const expert = Object.values(mlpProjections(mixture.experts[0] as never)).reduce(
      (sum, { rows, columns, bias }) => sum + rows * columns + (bias ? rows : 0),
      0,
    )
    expect(expert).toBe(recorded.params.expert)
    expect(spec.blocks.map((_, index) => blockParameters(spec, index).attention)).toEqual(recorded.params.mixer_per_block)
    const { total, active } = activeParameters(spec)
    expect(total + Vocabulary.parameters(spec)).toBe(recorded.params.total)
    expect(active + Vocabulary.parameters(spec)).toBe(recorded.params.active)
    view.dispose()
    await model.close()
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  })

  it.skipIf(!backend.bf16).each(mixtureModels)(
    'give the logits of %s in mixed precision, whose passes split their operands',
    async (name) => {
      const recorded = await expectedOf<Recorded>(name)
      const [window] = await referenceWindows('calibration')
      const model = await openModel(await referenceModel(name))
      const logits = await logitsOf(denseView(withProducts(model, productsOnUnits('mixed'))), window as Int32Array)
      for (const [position, expected] of Object.entries(recorded.dense.logits_at))
        expect(relativeError(logits[Number(position)] ?? [], expected), `position ${position}`).toBeLessThan(logitBound(name))
      await model.close()
    },
  )

  it('give the same for gpt-oss in blocks of MXFP4, whose values its plain file has', async () => {
    const [window] = await referenceWindows('calibration')
    const logits = async (name: 'gpt_oss' | typeof packedMixture) => {
      const model = await openModel(await referenceModel(name))
      const { quantised } = model.checkpoint
      const found = await logitsOf(denseView(model), (window as Int32Array).subarray(0, 40))
      await model.close()
      return { found, types: quantised?.types }
    }
    const packed = await logits(packedMixture)
    expect(packed.types).toEqual(['MXFP4'])
    expect(packed.found).toEqual((await logits('gpt_oss')).found)
  })
})

/** The budget in which weights may take `bytes`, with the vocabulary left on disk. */
const budgetFor = (bytes: number): number => Math.ceil(bytes / 0.75)

/** The smallest budget, and one in which weights stay as stored. */
async function budgetsOf(path: string): Promise<{ least: number; packed: number }> {
  const model = await openModel(path)
  const sizes = presentParts(model.spec).map((part) => partSize(model.checkpoint, model.spec, part))
  const most = Math.max(...sizes.map(({ byExpert }) => byExpert))
  const stored = sizes.reduce((sum, size) => sum + size.stored, 0)
  await model.close()
  return { least: budgetFor(2 * most), packed: budgetFor(stored + 2 * most) + Vocabulary.bytes(model.spec) }
}

/** A model with its weights rounded to bfloat16. */
async function roundedModel(path: string): Promise<string> {
  const [folder, checkpoint] = [`${path}-rounded`, await openFolder(path)]
  await mkdir(folder, { recursive: true })
  const bytes = async (name: string) => fromFloat32(await checkpoint.readFloat32(name), 'BF16')
  const tensors = [...checkpoint.tensors.values()].map(({ name, shape }) => ({
    name,
    shape,
    dtype: 'BF16' as const,
    bytes: () => bytes(name),
  }))
  await writeSafetensors(join(folder, 'model.safetensors'), tensors)
  await writeFile(join(folder, 'config.json'), JSON.stringify(checkpoint.config))
  await checkpoint.close()
  return folder
}

/** Removes two experts in the second half of the blocks, and half of the neurons of the others, which are scaled. */
function planOf({ spec }: Model): Plan {
  const dense = densePlan(spec)
  const blocks = dense.blocks.map((block, index) => {
    const { experts: count, width } = spec.blocks[index] ?? { width: 0 }
    if (count === undefined || index < spec.blocks.length / 2) return block
    const experts = Array.from({ length: count - 2 }, (_, expert) => expert)
    const keptByExpert = experts.map(() => Array.from({ length: width / 2 }, (_, neuron) => 2 * neuron))
    return { ...block, mlp: { kept: 'all' as const, experts, keptByExpert, expertScale: 0.9 } }
  })
  return { ...dense, blocks }
}

describe('mixtures that do not fit into memory', () => {
  // Together they cover separate and fused experts, a shared one, groups, a correction and biases.
  it.each([
    { name: 'qwen3_moe', kept: 'packed' },
    { name: 'glm4_moe-groups', kept: 'streamed' },
    { name: packedMixture, kept: 'streamed' },
  ] as const)('give bit by bit what they give in memory: $name, $kept', async ({ name, kept }) => {
    const path = kept === 'packed' ? await roundedModel(await referenceModel(name)) : await referenceModel(name)
    const windows = (await referenceWindows('calibration')).slice(0, 2).map((window) => window.subarray(0, 32))
    const before = memory().numTensors
    const budgets = await budgetsOf(path)
    const found = []
    for (const bytes of [2 ** 30, kept === 'packed' ? budgets.packed : budgets.least]) {
      const opened = await openModel(path, bytes)
      const { products, spec } = opened
      // Three experts per token: with two, their order would not change the sum.
      const meeting = { ...opened, spec: { ...spec, router: { ...(spec.router as RouterKind), chosen: 3 } } }
      const model = findBf16Ops() ? withProducts(meeting, { ...products, answers: 'bfloat16' }) : meeting
      const [view, pruned] = [denseView(model), viewWithPlan(model, planOf(model))]
      const { tensors, ...statistics } = await expertStatistics(view, windows, { outputs: 'mean' }, {})
      const norms = await expertNorms(view, windows, {})
      const answers = [await greedily(model, [5, 6, 7], 2), (await perplexity(pruned, windows)).perplexity]
      const corrections = await gateCorrections(view, planOf(model), windows, {})
      const importances = await measureImportances(view, windows, [])
      found.push({ residency: model.store.residency, statistics, means: [...tensors], norms, corrections, importances, answers })
      pruned.dispose()
      await opened.close()
    }
    const [resident, streamed] = found
    expect([resident?.residency, streamed?.residency]).toEqual(['resident', kept])
    expect({ ...streamed, residency: '' }).toEqual({ ...resident, residency: '' })
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  })

  it('end between two experts when they are cancelled', async () => {
    const path = await referenceModel('qwen3_moe')
    const { least } = await budgetsOf(path)
    const windows = (await referenceWindows('calibration')).slice(0, 2).map((window) => window.subarray(0, 32))
    const works: ((model: Model, signal: AbortSignal) => Promise<unknown>)[] = [
      (model, signal) => runWindows(denseView(model), windows, { signal }),
      (model, signal) => gateCorrections(denseView(model), planOf(model), windows, { signal }),
      (model, signal) =>
        repairPlan({ view: denseView(model), plan: planOf(model), windows, kind: 'one-pass', run: { ...recordedRun(), signal } }),
    ]
    for (const work of works) {
      const controller = new AbortController()
      const model = { ...(await openModel(path, least)), workspaceBytes: 2 ** 24 }
      const read = model.checkpoint.read.bind(model.checkpoint)
      const reads = vi.spyOn(model.checkpoint, 'read').mockImplementation((name, rows) => {
        if (/experts\.\d+\.down/.test(name)) controller.abort()
        return read(name, rows)
      })
      await expect(work(model, controller.signal)).rejects.toThrow(/abort/)
      // The one that was being read, and the next one, read in advance.
      expect(reads.mock.calls.filter(([name]) => /experts\.\d+\.down/.test(name)).length).toBeLessThanOrEqual(2)
      await model.close()
    }
  })

  it.each(['resident', 'streamed'])('give back all weights when a plan has lost a file: %s', async (residency) => {
    const path = await referenceModel('qwen3_moe')
    const before = memory().numTensors
    const model = await openModel(path, residency === 'resident' ? 2 ** 30 : (await budgetsOf(path)).least)
    const plan = planOf(model)
    const blocks = plan.blocks.map((block) => ('experts' in (block.mlp as object) ? { ...block, replaced: ['down' as const] } : block))
    const shape = [model.spec.hidden, (model.spec.blocks[0]?.width ?? 0) / 2]
    const names = blocks.flatMap((_, block) => [0, 1, 2, 3, 4, 5].map((expert) => expertDownName(block, expert)))
    let reads = 0
    const tensors = {
      tensors: new Map(names.map((name) => [name, { name, shape, dtype: 'F32' as const, bytes: 4 * at(shape, 0) * at(shape, 1) }])),
      read: () => Promise.reject(new Error('lost')),
      readFloat32: async () => (++reads % 2 === 0 ? Promise.reject(new Error('lost')) : new Float32Array(at(shape, 0) * at(shape, 1))),
      vector: () => new Float32Array(),
    }
    const view = viewWithPlan(model, { ...plan, blocks }, tensors)
    await expect(perplexity(view, (await referenceWindows('test')).slice(0, 1))).rejects.toThrow('lost')
    view.dispose()
    await model.close()
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  })

  it('pass as many together as hold their inputs, sums and outputs', async () => {
    const path = await referenceModel('qwen3_moe')
    const opened = await openModel(path, (await budgetsOf(path)).least)
    const model = { ...opened, workspaceBytes: 2 * 2 * 20 * 32 * opened.spec.hidden }
    const windows = (await referenceWindows('calibration')).slice(0, 4).map((window) => window.subarray(0, 32))
    const passed: number[] = []
    await runWindows(denseView(model), windows, { afterPart: (_group, part) => void passed.push(part) }, 1)
    expect(passed.slice(0, 4)).toEqual([-1, -1, 0, 0])
    await model.close()
  })

  it('read only the experts that a token chose, each once for all that chose it', async () => {
    const path = await referenceModel('qwen3_moe')
    const { least } = await budgetsOf(path)
    await expect(openModel(path, least - 100)).rejects.toThrow(/two experts at a time\) and two must fit/)
    const model = await openModel(path, least)
    const { experts } = dividePart(partNames(model.spec, mlpOf(3)))
    const own = new Set([...experts.values()].flatMap((entries) => Object.values(entries).map(({ weight }) => weight)))
    const reads = vi.spyOn(model.checkpoint, 'read')
    await greedily(model, [5], 1)
    const names = reads.mock.calls.map(([name]) => name).filter((name) => own.has(name))
    // Two experts of three matrices.
    expect(names).toHaveLength(6)
    await model.close()
  })
})
