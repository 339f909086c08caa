import { EspalierError } from '#contract/errors.ts'
import type { Removal } from '#contract/runs/runs.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { Context } from '../context.ts'

/** Deletes runs permanently, and reports beforehand what would be deleted. */
export class RunRemoval {
  readonly #context: Pick<Context, 'history' | 'logs' | 'emit'>

  constructor(context: Pick<Context, 'history' | 'logs' | 'emit'>) {
    this.#context = context
  }

  measure(rows: readonly RunRow[]): Removal {
    const { history, logs } = this.#context
    const ids = rows.map(({ id }) => id)
    const bytes = history.steps.bytes(ids) + ids.reduce((sum, id) => sum + logs.bytes(id), 0)
    return { runs: rows.length, transcripts: history.transcripts.countOfRuns(ids), bytes, undoUntil: null }
  }

  /** Deletes runs with their steps and logs. Transcripts are kept, because their text is useful without the run. */
  remove(rows: readonly RunRow[]): Removal {
    const { history, logs, emit } = this.#context
    const running = rows.find(({ status }) => status === 'running')
    if (running) throw new EspalierError('conflict', `"${running.name}" is running. Cancel it first.`)
    const visible = rows.find(({ archived_at }) => archived_at === null)
    if (visible) throw new EspalierError('conflict', `"${visible.name}" is not archived. Archive it first.`)
    const removed = this.measure(rows)
    const ids = rows.map(({ id }) => id)
    history.transaction(() => {
      for (const { id, number } of rows) {
        history.steps.clear(id)
        history.runs.remove(number)
      }
    })
    for (const id of ids) logs.remove(id)
    history.values.sweep(history.db)
    emit({ name: 'runs removed', data: { ids } })
    return { ...removed, transcripts: 0 }
  }
}
