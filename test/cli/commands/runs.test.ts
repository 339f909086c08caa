import { expect, it, vi } from 'vitest'
import { showRun } from '#cli/commands/runs.ts'
import { usedText } from '#cli/result-table.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RunDetail } from '#contract/runs/runs.ts'

const mixture = (experts: number[], keptByExpert?: number[][]): Plan['blocks'][number] => ({
  attention: 'kept',
  mlp: { kept: 'all', experts, ...(keptByExpert ? { keptByExpert } : {}) },
})

it('runs show says which experts and neurons of a mixture a plan keeps', () => {
  const plan = {
    blocks: [
      mixture([0, 2, 3]),
      mixture(
        [1, 2, 3],
        [
          [0, 1],
          [4, 5],
          [2, 7],
        ],
      ),
    ],
  }
  const said: string[] = []
  const log = vi.spyOn(console, 'log').mockImplementation((line) => said.push(line))
  showRun(
    {
      plan,
      name: '',
      status: 'done',
      method: 'reap',
      resolved: {},
      seed: 0,
      model: {},
      evaluation: [],
      measures: [],
      remarks: [],
      reached: null,
      nominal: null,
      createdAt: 0,
      seconds: null,
      device: null,
      experiment: null,
      beginToken: null,
      calibration: null,
      repair: null,
      recovery: null,
      problem: null,
      notes: '',
    } as unknown as RunDetail,
    undefined,
  )
  log.mockRestore()
  expect(said.find((line) => line.startsWith('plan'))).toBe('plan          experts kept: 3; MLP neurons kept: 2 (of 2 blocks)')
})

it('a text that was used is described in the words of the tables', () => {
  const used = { source: 'a.txt', revision: null, sequenceLength: 2048, windows: 1, seed: 0, hash: 'ab'.repeat(32) }
  expect(usedText(used)).toBe('1 window of 2,048 tokens of a.txt, in order (abababababab)')
})
