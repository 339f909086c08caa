import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { GateStep } from '#contract/pruning/gates.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { budgetFor, type CostLimit } from '#engine/pruning/budget.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import { gates } from '#engine/pruning/methods/gates.ts'
import { reachedSparsity, removedParameters } from '#engine/pruning/plan.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { writeSeededModel } from '../../../fixtures/seeded-model.ts'
import { makeValidModel, writeModelFiles } from '../../checkpoint/valid-model.ts'
import { openReference, type RecordedRun, recordedRun, testPerplexity } from '../running.ts'

const scratch = scratchFolder('gates')

const stepsIn = (run: RecordedRun): GateStep[] => run.events.flatMap((event) => (event.type === 'gates' ? [event.step] : []))
const ids = (length: number, seed = 0) => Int32Array.from({ length }, (_, i) => 1 + ((i * 37 + seed) % 40))

describe('on a trained model', () => {
  const open = openReference('stories260k')
  const input = (sparsity: number, options: object, run: MethodRun = recordedRun(), length = 64) => {
    const { model, calibration } = open()
    return {
      view: denseView(model),
      calibration: calibration.slice(0, 16).map((window) => window.slice(0, length)),
      budget: budgetFor(model.spec, { sparsity }),
      options: gates.options.parse({ windows: 8, steps: 24, windowsPerStep: 2, ...options }),
      run,
    }
  }

  test('training chooses better than prices alone, and every step meets the budget', async () => {
    const run = recordedRun()
    const { spec } = open().model
    const trained = await gates.plan(input(0.5, {}, run))
    const priced = await gates.plan(input(0.5, { steps: 0 }))
    expect(await testPerplexity(open(), trained.plan)).toBeLessThan(0.9 * (await testPerplexity(open(), priced.plan)))
    for (const { plan } of [trained, priced]) {
      const over = (reachedSparsity(spec, plan) - 0.5) * stackParameters(spec)
      expect(over).toBeGreaterThanOrEqual(-1e-6)
      expect(over).toBeLessThan(3 * spec.hidden)
    }
    const steps = stepsIn(run)
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 24 }, (_, i) => i + 1))
    expect(trained.gates?.steps).toEqual(steps)
    const mean = (some: readonly GateStep[]) => some.reduce((sum, { divergence }) => sum + divergence, 0) / some.length
    expect(mean(steps.slice(-6))).toBeLessThan(mean(steps.slice(0, 6)))
    // Each block keeps its highest scores.
    const shown = run.events.find((event) => event.type === 'neuron scores')
    for (const [block, { mlp }] of trained.plan.blocks.entries()) {
      const own = shown?.scores[block] ?? []
      const kept = mlp === 'removed' || mlp.kept === 'all' ? [...own.keys()] : mlp.kept
      expect(own).toHaveLength(spec.intermediate)
      expect(Math.min(...kept.map((neuron) => own[neuron] as number))).toBe(shown?.cuts[block])
      expect(own.filter((score) => score > (shown?.cuts[block] ?? 0) + 1e-4).length).toBeLessThanOrEqual(kept.length)
    }
    // Closed gates reopen.
    expect(Math.max(...steps.map(({ reopened }) => reopened))).toBeGreaterThan(0)
    for (const { kept, attentionRemoved } of steps) {
      const plan = {
        blocks: kept.map((count, block) => ({
          attention: attentionRemoved.includes(block) ? ('removed' as const) : ('kept' as const),
          mlp: { kept: Array.from({ length: count }, (_, i) => i) },
        })),
      }
      expect(Math.abs(reachedSparsity(spec, plan) - 0.5) * stackParameters(spec)).toBeLessThan(3 * spec.hidden)
    }
  })

  test('little memory changes how passes run, and not what is removed', async () => {
    const path = await writeSeededModel(join(scratch, 'deep'), {
      type: 'llama',
      hidden: 64,
      intermediate: 512,
      heads: 2,
      keyValueHeads: 1,
      blocks: 12,
    })
    const planWith = async (memoryBytes: number, streams: boolean) => {
      const model = await openModel(path, memoryBytes)
      try {
        expect(model.store.streams).toBe(streams)
        const windows = [ids(16), ids(16, 3), ids(16, 7)]
        const asked = { ...input(0.4, { windows: 3, steps: 3, windowsPerStep: 1 }), view: denseView(model), calibration: windows }
        return (await gates.plan({ ...asked, budget: budgetFor(model.spec, { sparsity: 0.4 }) })).plan
      } finally {
        await model.close()
      }
    }
    expect(await planWith(5_000_000, true)).toEqual(await planWith(50_000_000, false))
  })

  test('memory for less than one window is refused, with what is needed', async () => {
    const small = await openModel(await referenceModel('stories260k'), 2_900_000)
    try {
      await expect(gates.plan({ ...input(0.4, {}, recordedRun(), 512), view: denseView(small) })).rejects.toThrow(
        /Gates need [\d,]+ MiB for one window of 256 tokens/,
      )
    } finally {
      await small.close()
    }
  })

  test('a budget of cost is met as closely as one gate allows', async () => {
    const { model } = open()
    const { spec } = model
    const all = stackParameters(spec)
    const limit: CostLimit = {
      asked: 'a limit',
      text: String,
      most: 0.55 * all,
      spare: 0,
      of: async (plan) => all - removedParameters(spec, plan),
    }
    const asked = input(0.4, { steps: 2 })
    const { plan, predicted } = await gates.plan({ ...asked, budget: { ...asked.budget, cost: limit } })
    const cost = await limit.of(plan)
    expect(predicted).toBe(cost)
    expect(cost).toBeLessThanOrEqual(limit.most)
    expect(limit.most - cost).toBeLessThan(2 * 3 * spec.hidden)
    await expect(gates.plan({ ...asked, budget: { ...asked.budget, cost: { ...limit, most: 1 } } })).rejects.toThrow('misses a limit')
  })

  test('widths are multiples of the width unit', async () => {
    const { plan, notes } = await gates.plan(input(0.5, { steps: 2, unit: 16 }))
    const width = open().model.spec.intermediate
    for (const { mlp } of plan.blocks) {
      const kept = mlp === 'removed' || mlp.kept === 'all' ? width : mlp.kept.length
      expect(kept === width || kept % 16 === 0).toBe(true)
    }
    expect(notes.join()).toMatch(/multiples of 16|^$/)
  })

  test('a text of one window is used in every step, and the run says so', async () => {
    const one = { ...input(0.3, { steps: 3 }), calibration: [ids(48)] }
    const { plan, notes } = await gates.plan(one)
    expect(notes).toEqual(['Calibration has 1 window, but 3 steps want 6. Windows were used again.'])
    expect(reachedSparsity(open().model.spec, plan)).toBeCloseTo(0.3, 2)
  })

  test('gates without any price are closed in order, and training still orders them', async () => {
    // One token has no successor, so the text has no likelihood.
    const { plan } = await gates.plan({ ...input(0.3, { steps: 0 }), calibration: [ids(1)] })
    const first = plan.blocks[0]?.mlp
    expect(first).not.toBe('removed')
    expect(first !== 'removed' && first?.kept !== 'all' && (first?.kept[0] ?? 0) > 0).toBe(true)
    await gates.plan({ ...input(0.3, { steps: 2 }), calibration: [ids(1)] })
  })

  test('a budget out of reach is refused with the most that can be removed', async () => {
    await expect(gates.plan(input(0.99, {}))).rejects.toThrow(/at most 9\d\.\d % of the block stack.*99\.0 % were requested/)
    expect(() => gates.outline?.(open().model.spec, { sparsity: 0.99, blocks: 1 }, gates.options.parse({}))).toThrow('at most')
  })

  test('a cancelled run stops, and leaves no tensors', async () => {
    await gates.plan(input(0.4, { steps: 1 }))
    const before = memory().numTensors
    const controller = new AbortController()
    const run = recordedRun()
    const cancelling: MethodRun = {
      ...run,
      signal: controller.signal,
      emit: (event) => {
        if (event.type === 'gates' && event.step.step === 2) controller.abort()
      },
    }
    await expect(gates.plan(input(0.4, {}, cancelling))).rejects.toThrow(/abort/i)
    expect(memory().numTensors).toBe(before)
  })

  test('another text for prices is another training', async () => {
    const steps = new Map<string, string>()
    await gates.plan(input(0.4, { steps: 2, windows: 8 }, recordedRun(0, steps)))
    const again = recordedRun(0, steps)
    await gates.plan(input(0.4, { steps: 2, windows: 4 }, again))
    expect(again.computed.some((name) => name.includes('gates, steps'))).toBe(true)
  })
})

test('a model with one block keeps some of its neurons', async () => {
  const path = await writeSeededModel(join(scratch, 'one'), {
    type: 'llama',
    hidden: 16,
    intermediate: 64,
    heads: 2,
    keyValueHeads: 1,
    blocks: 1,
  })
  const model = await openModel(path)
  try {
    const { most } = gates.range(model.spec, gates.options.parse({}))
    const { plan } = await gates.plan({
      view: denseView(model),
      calibration: [ids(32), ids(32, 5)],
      budget: budgetFor(model.spec, { sparsity: most }),
      options: gates.options.parse({ windows: 2, steps: 2, windowsPerStep: 1 }),
      run: recordedRun(),
    })
    const [block] = plan.blocks
    expect(block?.mlp).not.toBe('removed')
    expect(reachedSparsity(model.spec, plan)).toBeGreaterThanOrEqual(most)
  } finally {
    await model.close()
  }
})

test.each([0, 2])('weights that overflow end a run with %i steps with an error, not a plan', async (steps) => {
  const folder = mkdtempSync(join(scratch, 'overflow-'))
  const files = makeValidModel()
  for (const part of ['gate', 'up']) {
    const values = new Float32Array(files.tensors[`model.layers.1.mlp.${part}_proj.weight`]?.bytes.buffer as ArrayBuffer)
    for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) * 1e22
  }
  await writeModelFiles(folder, files)
  const model = await openModel(folder)
  try {
    const calibration = [ids(16), ids(16, 3)].map((window) => window.map((id) => id % model.spec.vocabulary))
    const options = gates.options.parse({ windows: 2, steps, windowsPerStep: 1 })
    const asked = { view: denseView(model), calibration, budget: budgetFor(model.spec, { sparsity: 0.25 }), options, run: recordedRun() }
    await expect(gates.plan(asked)).rejects.toThrow('came out infinite or not a number')
  } finally {
    await model.close()
  }
})
