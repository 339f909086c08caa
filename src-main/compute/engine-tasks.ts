import { join } from 'node:path'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { EngineReport } from '#contract/machine/engine-state.ts'
import { resources } from '#runtime/resources.ts'
import { withMemory } from './claim-memory.ts'
import type { JobHost } from './job-host.ts'

/** Runs a task in the engine. */
export const performTask = (task: ComputeTask, host: JobHost): Promise<unknown> => withMemory(task, host, () => perform(task, host))

/** Imports only what the task needs, so that a question about a model does not start the tensor runtime. */
async function perform(task: ComputeTask, host: JobHost): Promise<unknown> {
  switch (task.kind) {
    case 'run':
      return (await import('#engine/tasks/run/run.ts')).executeRun(task.request, host)
    case 'ablation':
      return (await import('#engine/tasks/study.ts')).executeStudy(task.request, host)
    case 'inspection':
      return (await import('#engine/tasks/inspection.ts')).executeInspection(task.request, task.subjects, host)
    case 'generate':
      await requireOwn(task.request.model, task.request.columns, host)
      return (await import('#engine/evaluation/generation/generate-columns.ts')).generateColumns(task.request, host)
    case 'catalogue':
      return (await import('#engine/tasks/catalogue.ts')).describeCatalogue({
        sample: join(resources, 'sample-model'),
        questions: join(resources, 'questions'),
      })
    case 'describe model':
      return (await import('#engine/tasks/describe-model.ts')).describeModel(task.path, host.signal)
    case 'measure begin':
      return (await import('#engine/tasks/measure-begin.ts')).measureModelBegin(task.model, task.memoryBytes, host)
    case 'look at text':
      return (await import('#engine/tasks/look-at-text.ts')).lookAtText(task.model, task.data, task.against)
    case 'check requests':
      return (await import('#engine/tasks/check-request.ts')).checkRequests(task.requests, host.signal)
    case 'work':
      return (await import('#engine/tasks/check-request.ts')).workOfRequests(task.requests, host.signal)
    case 'outline save':
      return (await import('#engine/export/check-save.ts')).checkSave(task)
    case 'save':
      return (await import('#engine/tasks/save.ts')).executeSave(task, host)
    case 'bench files':
      return (await import('#engine/tasks/bench.ts')).executeBench(task, host)
    case 'speed range':
      return (await import('#engine/tasks/speed-range.ts')).measureSpeedRange(task, host)
    case 'probe':
      return probe()
    case 'self-test':
      return (await import('#engine/tasks/self-test.ts')).runSelfTest(task.backend)
  }
}

async function requireOwn(path: string, plans: readonly { fingerprint: string | null }[], host: JobHost): Promise<void> {
  const { requireOwnModel } = await import('#engine/tasks/own-model.ts')
  await requireOwnModel(
    path,
    plans.map(({ fingerprint }) => fingerprint),
    host,
  )
}

async function probe(): Promise<EngineReport> {
  const { openBackend } = await import('#engine/backend/backend.ts')
  const { version } = await import('#contract/version.ts')
  const { listDevices, missingRuntimes } = await import('#engine/backend/list-devices.ts')
  const backend = await openBackend('auto')
  const { name, title, reason } = backend
  return {
    backend: name,
    device: title,
    why: reason,
    version,
    devices: await listDevices(backend),
    backends: [{ name, available: true, why: reason }, ...missingRuntimes(backend)],
  }
}
