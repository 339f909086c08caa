import { describe, expect, it } from 'vitest'
import type { RunRequest } from '#contract/run-request.ts'
import { previewRequests } from '#engine/pruning/preview.ts'
import { expectedOf, referenceModel } from '../../fixtures/reference.ts'

const request = async (method: string, sparsity: number): Promise<RunRequest> => ({
  model: await referenceModel('stories260k'),
  method,
  amount: { sparsity },
  options: {},
  seed: 0,
  measures: [],
  backend: 'auto',
})

describe('the preview of a run', () => {
  it('says what Eq. 5 gives and what 2SSP reaches, as the reference recorded it', async () => {
    const recorded = (
      await expectedOf<{ '2ssp': { rate: number; P: number; num_preserve_mlp: number; true_sparsity_of_blocks: number }[] }>('stories260k')
    )['2ssp']
    for (const { rate, P, num_preserve_mlp: kept, true_sparsity_of_blocks: reached } of recorded) {
      const [preview] = await previewRequests([await request('2ssp', rate)])
      expect(preview).toMatchObject({ feasible: true, attentionRemoved: P, neuronsRemovedPerBlock: 172 - kept })
      expect(preview?.reached).toBeCloseTo(reached, 9)
    }
  })

  it('counts whole blocks for depth methods, and names the range where a sparsity is out of it', async () => {
    const [shortgpt, beyond, unknown] = await previewRequests([
      await request('shortgpt', 0.35),
      await request('2ssp', 0.999),
      await request('wanda', 0.5),
    ])
    expect(shortgpt).toMatchObject({ feasible: true, blocksRemoved: 2, reached: 0.4 })
    expect(beyond).toMatchObject({ feasible: false, problem: expect.stringMatching(/at most|possible/) })
    expect(unknown).toMatchObject({ feasible: false, problem: expect.stringContaining('Known are') })
  })
})
