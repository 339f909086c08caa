import { join } from 'node:path'
import type { ComputeTask } from '#contract/compute-messages.ts'
import { EspalierError } from '#contract/errors.ts'
import type { StoredModel } from '#db/models.ts'
import type { RunRow } from '#db/runs.ts'
import { askDesk } from './ask-desk.ts'
import type { Context, Service } from './context.ts'
import { exportedRun } from './exported-run.ts'
import { confine, safeFileName } from './folders.ts'
import type { Library } from './library.ts'
import { checkTarget } from './save-target.ts'
import { currentSettings } from './settings.ts'
import type { Move, Transfers } from './transfers.ts'

interface Target {
  folder: string
  format: string
  replace: boolean
}

/** Writes the pruned model of a run, and adds it to the library as a child of its model. */
export function exportsService(
  context: Context,
  library: Library,
  transfers: Transfers,
): Pick<Service<'runs'>, 'runs.save' | 'runs.checkSave'> {
  const { history, exporter } = context

  function taskFor(row: RunRow, model: StoredModel, save: Target): ComputeTask {
    const { memoryBytes } = currentSettings(context)
    const limit = memoryBytes === null ? {} : { memoryBytes }
    const plan = row.baseline ? null : history.documents.plan(row.number)
    return { kind: 'save', model: model.path, plan, method: row.method, run: exportedRun(history, row, model), ...save, ...limit }
  }

  function write(row: RunRow, task: ComputeTask): Move {
    return async (signal, report) => {
      const job = exporter.perform(task, {
        onEvent(event) {
          const { done, total } = event as { done?: number; total?: number }
          if (typeof done === 'number') report({ doneBytes: done, totalBytes: total ?? null })
        },
        onOutput: (chunk) => context.logs.append(row.id, chunk),
      })
      signal.addEventListener('abort', () => job.cancel())
      await job.result
      return null
    }
  }

  /** Throws what writing the model there in this format would throw in the end. */
  async function check(model: StoredModel, method: string, { folder, format, replace }: Target): Promise<void> {
    await checkTarget(folder, model.path, replace)
    await askDesk(context.desk, { kind: 'check save', model: model.path, method, format })
  }

  return {
    async 'runs.checkSave'({ model, method, ...target }) {
      await check(library.find(model), method, target)
      return {}
    },
    async 'runs.save'({ id, format, name, folder, replace }) {
      const row = history.runs.find(id)
      if (!row) throw new EspalierError('not-found', `There is no run ${id}.`)
      if (!row.has_plan) throw new EspalierError('conflict', `"${row.name}" has no plan: it is ${row.status}.`)
      const model = library.find(row.model)
      const title = name ?? `${model.name} ${row.name}`
      const { folders } = currentSettings(context)
      const place = folder ?? confine(join(folders.exports, safeFileName(title)), [folders.exports])
      await check(model, row.method, { folder: place, format, replace })
      const move = write(row, taskFor(row, model, { folder: place, format, replace }))
      const request = { run: id, format, folder: place }
      const { transfer } = transfers.begin({ kind: 'export', name: title, totalBytes: null, request }, async (signal, report) => {
        await move(signal, report)
        const gone = history.models.atPath(place)
        if (gone) history.models.setRemoved(gone.id, Date.now(), false)
        const saved = await library.register(place, { name: title, origin: 'exported', source: null, parent: model.id, run: id })
        return saved.id
      })
      return transfer
    },
  }
}
