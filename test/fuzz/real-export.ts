import { join } from 'node:path'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { referenceModel } from '../fixtures/reference.ts'
import { openedWorkbench, runEnded } from '../services/opened.ts'

const windowsIn = (name: string, windows: number) => ({
  source: join(import.meta.dirname, '..', 'fixtures', 'reference', `${name}-windows.json`),
  sequenceLength: 256,
  windows,
})

/**
 * The text of an experiment's file, as `experiments.export` returns it, with runs of the real engine: plans, decisions, repair and
 * measures.
 */
export async function makeRealExport(): Promise<string> {
  const modelPath = await referenceModel('stories260k')
  await using workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath })
  const { experiment, runs } = await workbench.call('experiments.create', {
    name: 'To be imported',
    grid: {
      models: [workbench.model.id],
      methods: [{ method: '2ssp' }, { method: 'slicegpt' }, { method: 'evopress', options: { generations: 1, offspring: 4 } }],
      amounts: [{ sparsity: 0.25 }],
      calibration: windowsIn('calibration', 2),
      measures: [{ kind: 'perplexity', name: 'test', data: windowsIn('test', 2) }],
      backend: 'auto',
    },
  })
  for (const { id } of runs) {
    const { status, problem } = await runEnded(workbench, id)
    if (status !== 'done') throw new Error(`A run to export is ${status}: ${problem?.message ?? ''}`)
  }
  return (await workbench.call('experiments.export', { id: experiment.id })).content
}
