import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { ComputeTask } from '#contract/compute-messages.ts'
import { EspalierError } from '#contract/errors.ts'
import type { RunRow } from '#db/runs.ts'
import type { Context, Service } from './context.ts'
import { confine, safeFileName } from './folders.ts'
import type { Library } from './library.ts'
import { currentSettings } from './settings.ts'
import type { Move, Transfers } from './transfers.ts'

/** Writes the pruned model of a run, and adds it to the library as a child of its model. */
export function exportsService(context: Context, library: Library, transfers: Transfers): Pick<Service<'runs'>, 'runs.save'> {
  const { history, exporter } = context

  function taskFor(row: RunRow, model: string, save: { folder: string; format: string }): ComputeTask {
    const { memoryBytes } = currentSettings(context)
    const limit = memoryBytes === null ? {} : { memoryBytes }
    const plan = row.baseline ? null : history.documents.plan(row.number)
    return { kind: 'save', model, plan, method: row.method, ...save, ...limit }
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

  return {
    'runs.save'({ id, format, name, folder }) {
      const row = history.runs.find(id)
      if (!row) throw new EspalierError('not-found', `There is no run ${id}.`)
      if (!row.has_plan) throw new EspalierError('conflict', `"${row.name}" has no plan yet: it is ${row.status}.`)
      const { folders } = currentSettings(context)
      const model = library.find(row.model)
      const title = name ?? `${model.name} ${row.name}`
      const target = folder ?? confine(join(folders.exports, safeFileName(title)), [folders.exports])
      if (existsSync(target)) throw new EspalierError('conflict', `${target} exists already. Choose another name.`)
      const move = write(row, taskFor(row, model.path, { folder: target, format }))
      const request = { run: id, format, folder: target }
      const { transfer } = transfers.begin({ kind: 'export', name: title, totalBytes: null, request }, async (signal, report) => {
        await move(signal, report)
        const saved = await library.register(target, { name: title, origin: 'exported', source: null, parent: model.id, run: id })
        return saved.id
      })
      return transfer
    },
  }
}
