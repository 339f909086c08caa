import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { Context, Service } from './context.ts'
import { confine, safeFileName } from './folders.ts'
import type { Library } from './models.ts'
import { currentSettings } from './settings.ts'
import type { Transfers } from './transfers.ts'

/** Writes the pruned model of a run, and adds it to the library as a child of its model. */
export function exportsService(context: Context, library: Library, transfers: Transfers): Pick<Service<'runs'>, 'runs.save'> {
  const { history, exporter } = context
  return {
    'runs.save'({ id, format, name, folder }) {
      const row = history.runs.find(id)
      if (!row) throw new EspalierError('not-found', `There is no run ${id}.`)
      if (!row.has_plan) throw new EspalierError('conflict', `"${row.name}" has no plan yet: it is ${row.status}.`)
      const { folders, memoryBytes } = currentSettings(context)
      const model = library.find(row.model)
      const title = name ?? `${model.name} ${row.name}`
      const target = confine(folder ?? join(folders.exports, safeFileName(title)), [folders.exports, folders.models])
      if (existsSync(target)) throw new EspalierError('conflict', `${target} exists already. Choose another name.`)
      const plan = row.baseline ? null : history.documents.plan(row.number)
      const task = {
        kind: 'save' as const,
        model: model.path,
        plan,
        method: row.method,
        folder: target,
        format,
        ...(memoryBytes === null ? {} : { memoryBytes }),
      }
      const { transfer } = transfers.begin(
        { kind: 'export', name: title, totalBytes: null, request: { run: id, format, folder: target } },
        async (signal, report) => {
          const job = exporter.perform(task, {
            onEvent(event) {
              const { done, total } = event as { done?: number; total?: number }
              if (typeof done === 'number') report({ doneBytes: done, totalBytes: total ?? null })
            },
            onOutput: (chunk) => context.logs.append(id, chunk),
          })
          signal.addEventListener('abort', () => job.cancel())
          await job.result
          const saved = await library.register(target, { name: title, origin: 'exported', source: null, parent: model.id, run: id })
          return saved.id
        },
      )
      return transfer
    },
  }
}
