import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { BackendName } from '#contract/runs/run-request.ts'
import type { JobHost } from './job-host.ts'

/**
 * Waits until there is memory for a task beside the workbench's other processes. The memory of a GPU is not divided: there each process takes
 * most of what it finds free. A task whose needs cannot be counted claims nothing, because it will fail with the reason. Performs the task
 * then, and gives the memory back if the task leaves no model open.
 */
export async function withMemory<T>(task: ComputeTask, host: JobHost, perform: () => Promise<T>): Promise<T> {
  await claimMemory(task, host)
  try {
    return await perform()
  } finally {
    if (closesModel(task)) await host.claimMemory(0, false)
  }
}

const closesModel = ({ kind }: ComputeTask): boolean => kind === 'save' || kind === 'measure begin' || kind === 'speed range'

async function claimMemory(task: ComputeTask, host: JobHost): Promise<void> {
  const needs = needsOf(task)
  if (!needs) return
  const { openBackend } = await import('#engine/backend/backend.ts')
  const { deviceBytes } = await import('#engine/backend/active.ts')
  const { releaseModel } = await import('#engine/model/kept-model.ts')
  const { usualMemory } = await import('#engine/model/model.ts')
  await openBackend(needs.backend)
  if (deviceBytes() !== undefined) return
  const counted = await needs.count().catch(() => undefined)
  if (counted === undefined) return
  const bytes = Math.min(counted, needs.limit ?? usualMemory())
  if (await host.claimMemory(bytes, false)) return
  // What waits must hold nothing, or two processes could wait for each other.
  await releaseModel()
  await host.claimMemory(bytes, true)
}

interface Needs {
  readonly backend: BackendName
  /** The task's memory budget. */
  readonly limit: number | undefined
  /** Counts bytes without reading weights. */
  count(): Promise<number>
}

/** What a task needs that opens a model's weights; undefined for others. Imports nothing, because most tasks are short questions. */
function needsOf(task: ComputeTask): Needs | undefined {
  if (task.kind === 'run' || task.kind === 'ablation' || task.kind === 'inspection') {
    const { backend, memoryBytes: limit } = task.request
    return { backend, limit, count: async () => (await import('#engine/tasks/check-request.ts')).memoryOfRequest(task.request) }
  }
  if (task.kind === 'generate') {
    const { backend, memoryBytes: limit, model } = task.request
    return { backend, limit, count: () => countOpen(model) }
  }
  if (task.kind === 'save' || task.kind === 'measure begin' || task.kind === 'speed range')
    return { backend: 'auto', limit: task.memoryBytes, count: () => countOpen(task.model) }
  return undefined
}

const countOpen = async (model: string): Promise<number> => (await import('#engine/estimate/memory.ts')).openBytes(model)
