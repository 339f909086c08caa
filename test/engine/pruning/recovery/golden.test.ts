import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { trainStep } from '#engine/pruning/recovery/training.ts'
import { openReference } from '../running.ts'
import { batchOf, denseStates, gradientsOf, lengthOf, openTraining } from './training.ts'

interface Golden {
  readonly windows: number[][]
  readonly kl_all_windows_before: number
  readonly kl_all_windows_after: number
  readonly steps: readonly {
    readonly lr: number
    readonly windows: [number, number]
    readonly loss: number
    readonly grad_norm_before_clip: number
    readonly grad_norms: Record<string, number>
    readonly first_four_gradient_entries_before_clip?: Record<string, number[]>
  }[]
  readonly weights_after: Record<string, { sum: number; norm: number; first: number[] }>
}

const golden = JSON.parse(
  await readFile(join(import.meta.dirname, '..', '..', '..', 'fixtures', 'recovery', 'kl-llama3-rope.json'), 'utf8'),
) as Golden

const even = Array.from({ length: 88 }, (_, i) => 2 * i)
const plan: Plan = {
  blocks: [
    { attention: 'kept', mlp: { kept: even } },
    { attention: 'removed', mlp: { kept: 'all' } },
    { attention: 'kept', mlp: 'removed' },
    { attention: 'kept', mlp: { kept: 'all' } },
  ],
}

const keys: Record<string, string> = {
  'attention.norm': 'input_layernorm',
  'attention.query': 'self_attn.q_proj',
  'attention.key': 'self_attn.k_proj',
  'attention.value': 'self_attn.v_proj',
  'attention.output': 'self_attn.o_proj',
  'mlp.norm': 'post_attention_layernorm',
  'mlp.gate': 'mlp.gate_proj',
  'mlp.up': 'mlp.up_proj',
  'mlp.down': 'mlp.down_proj',
}

/** The golden file's name for a trained tensor. */
function nameOf(own: string): string {
  if (own === 'final.norm.weight') return 'model.norm.weight'
  const [, block, ...rest] = own.split('.')
  return `model.layers.${block}.${keys[rest.join('.')]}.weight`
}

describe('the golden steps of PyTorch', () => {
  const open = openReference('llama3-rope')
  const windows = golden.windows.map((window) => Int32Array.from(window))

  test.each([true, false])('three steps give its losses, gradients and weights within 1e-4, activations kept: %s', async (keeps) => {
    const { model } = open()
    const before = memory().numTensors
    const states = await denseStates(model, windows)
    const { student, pass, dispose } = await openTraining(model, plan, { keeps })
    const all = async () => {
      const batch = batchOf(windows, states)
      return (await pass.loss(batch).finally(() => batch.dense.dispose())) / batch.ids.length
    }
    expect(await all()).toBeCloseTo(golden.kl_all_windows_before, 5)
    for (const [index, expected] of golden.steps.entries()) {
      const own = expected.windows.map((window) => window)
      const make = () =>
        batchOf(
          own.map((at) => windows[at] as Int32Array),
          own.map((at) => states[at] as Float32Array),
        )
      const probe = make()
      const { gradients } = await gradientsOf(pass, probe).finally(() => probe.dense.dispose())
      expect([...gradients.keys()].map(nameOf).sort()).toEqual(Object.keys(expected.grad_norms).sort())
      for (const [name, values] of gradients) {
        const wanted = expected.grad_norms[nameOf(name)] as number
        expect(Math.abs(lengthOf(values) / wanted - 1), name).toBeLessThan(2e-4)
        expected.first_four_gradient_entries_before_clip?.[nameOf(name)]?.forEach((entry, i) => {
          expect(Math.abs((values[i] as number) - entry), name).toBeLessThan(1e-4 * wanted)
        })
      }
      // One window at a time, as micro-batches: their gradients add up to those of both.
      const singles = own.map((at) => async () => batchOf([windows[at] as Int32Array], [states[at] as Float32Array]))
      const { loss, length } = await trainStep(student, pass, singles, 128, { step: index + 1, rate: expected.lr })
      expect(loss).toBeCloseTo(expected.loss, 4)
      expect(Math.abs(length / expected.grad_norm_before_clip - 1)).toBeLessThan(1e-4)
    }
    expect(await all()).toBeCloseTo(golden.kl_all_windows_after, 4)
    for (const [name, { values }] of student.masters) {
      const wanted = golden.weights_after[nameOf(name)] as Golden['weights_after'][string]
      expect(Math.abs(lengthOf(values) - wanted.norm), name).toBeLessThan(1e-4)
      for (const [i, entry] of wanted.first.entries()) expect(values[i], name).toBeCloseTo(entry, 4)
    }
    dispose()
    expect(memory().numTensors).toBeLessThanOrEqual(before + 60)
  })
})
