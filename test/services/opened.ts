import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ApiEvent, Output } from '#contract/api.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import { processorDevice } from '#jobs/this-machine.ts'
import type { WorkbenchOptions } from '#services/compose.ts'
import { openWorkbench, type Workbench } from '#services/workbench.ts'
import { eventually } from '../eventually.ts'

export const fakeCompute = [process.execPath, join(import.meta.dirname, '..', 'fixtures', 'fake-compute.ts')] as const

export interface Opened extends Workbench, AsyncDisposable {
  folder: string
  events: ApiEvent[]
  model: ModelEntry
  /** Closes the workbench and opens it again on the same folder. */
  reopened(): Promise<Opened>
}

/** A workbench on a temporary folder with one model in its library and a compute process without an engine. */
export async function openedWorkbench(options: WorkbenchOptions & { folder?: string; modelPath?: string } = {}): Promise<Opened> {
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'espalier-test-'))
  const workbench = await openWorkbench({
    folder,
    computeCommand: fakeCompute,
    devices: [processorDevice()],
    bundledModel: null,
    ...options,
  })
  const events: ApiEvent[] = []
  workbench.subscribe((event) => events.push(event))
  const [known] = await workbench.call('models.list', {})
  const model = known ?? (await workbench.call('models.add', { path: options.modelPath ?? emptyCheckpoint(folder), name: 'tiny' }))
  return {
    ...workbench,
    folder,
    events,
    model,
    async reopened() {
      await workbench.close()
      return openedWorkbench({ ...options, folder })
    },
    async [Symbol.asyncDispose]() {
      await workbench.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** A folder that the engineless compute process accepts as a model. */
function emptyCheckpoint(folder: string): string {
  const checkpoint = join(folder, 'given', 'tiny')
  mkdirSync(checkpoint, { recursive: true })
  writeFileSync(join(checkpoint, 'config.json'), '{}')
  return checkpoint
}

/** A small grid over the model: two methods, one sparsity. */
export function smallGrid({ model }: Pick<Opened, 'model'>, options: Record<string, unknown> = {}) {
  return {
    models: [model.id],
    methods: [
      { method: '2ssp', options },
      { method: 'shortgpt', options },
    ],
    amounts: [{ sparsity: 0.25 }],
  }
}

/** Options of a run that waits before its fourth round until it is released, so that tests do not depend on timing. */
export function heldRun({ folder }: Pick<Opened, 'folder'>, rounds = 8) {
  const until = join(folder, 'let-go')
  return { options: { rounds, waitAt: 4, until }, letGo: () => writeFileSync(until, '') }
}

export async function oneRun(
  { call, model }: Pick<Opened, 'call' | 'model'>,
  options: Record<string, unknown> = {},
  seed = 0,
): Promise<Output<'runs.create'>> {
  return call('runs.create', {
    model: model.id,
    request: { method: '2ssp', amount: { sparsity: 0.25 }, options, seed, measures: [], backend: 'auto' },
  })
}

const resting = new Set(['done', 'failed', 'cancelled', 'interrupted', 'paused', 'draft'])

export async function runEnded({ call }: Pick<Opened, 'call'>, id: string): Promise<Output<'runs.get'>> {
  return eventually(
    async () => {
      const run = await call('runs.get', { id })
      return resting.has(run.status) && run
    },
    `the end of ${id}`,
    90_000,
  )
}

/** A run's measures without its duration, which differs from run to run. */
export function outcomesOf({ measures }: Pick<Output<'runs.get'>, 'measures'>) {
  return measures.filter(({ name }) => name !== 'pruning time')
}
