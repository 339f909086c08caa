import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import type { BackendName } from '#contract/runs/run-request.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { timedMachine } from '../../e2e/timed-machine.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'
import { type Opened, openedWorkbench } from '../opened.ts'

const source = join(import.meta.dirname, '..', '..', 'fixtures', 'reference', 'calibration-windows.json')

/** What a preview, in the long-lived process for questions, says about the precision. */
async function precisionProblem({ call, model }: Opened, backend: BackendName): Promise<string | null> {
  const { problems, combinations } = await call('experiments.preview', {
    grid: {
      models: [model.id],
      methods: [{ method: '2ssp' }],
      amounts: [{ sparsity: 0.4 }],
      calibration: { source, sequenceLength: 256, windows: 2 },
      backend,
      precision: 'mixed',
    },
  })
  return problems.find(({ field }) => field === 'precision')?.code ?? (combinations[0]?.feasible ? null : 'infeasible')
}

test('a preview asks the runtime that a backend opens, whatever was opened under another name before', async () => {
  // No machine has the GPU that one of them asks for.
  vi.stubEnv('ESPALIER_VULKAN', '0')
  const folder = scratchOfTest('test')
  await timedMachine(folder)
  await using workbench = await openedWorkbench({
    folder,
    computeCommand: defaultComputeCommand(),
    modelPath: await referenceModel('stories260k'),
  })
  const alone = await precisionProblem(workbench, 'auto')
  // `auto` opened TensorFlow here, so it is the same runtime.
  expect(await precisionProblem(workbench, 'tensorflow')).toBe(alone)
  expect(await precisionProblem(workbench, 'ggml-gpu')).toBe('not-found')
  expect(await precisionProblem(workbench, 'auto')).toBe(alone)
  vi.unstubAllEnvs()
})
