import type { ExperimentEntry } from '#contract/experiments/experiments.ts'
import { call, on, onMissed } from '../../api/api.ts'
import { importFile } from '../../lib/import-file.ts'
import { Loader } from '../../lib/loader.svelte.ts'
import { attempt, notifyProblem } from '../../lib/notices.svelte.ts'
import { readText } from '../../lib/read-text.ts'
import { coalesce, stopAll } from '../../lib/schedule.ts'
import { containsWords } from '../../lib/search.ts'

/** The list of experiments, newest first. */
export class ExperimentsState {
  list = new Loader<ExperimentEntry[]>()
  search = $state('')
  archived = $state(false)

  readonly shown: ExperimentEntry[] = $derived(
    (this.list.value ?? []).filter(({ name, notes, tags }) => containsWords([name, notes, ...tags].join(' '), this.search)),
  )

  readonly #refreshSoon = coalesce(() => this.refresh(), 500)

  follow(): () => void {
    this.refresh()
    return stopAll(
      on('experiment changed', this.#refreshSoon),
      on('experiment removed', this.#refreshSoon),
      on('run changed', this.#refreshSoon),
      onMissed(() => this.refresh()),
    )
  }

  refresh(): void {
    void this.list.load(() => call('experiments.list', { archived: this.archived }))
  }

  showArchived(archived: boolean): void {
    this.archived = archived
    this.refresh()
  }

  async star({ id }: ExperimentEntry, starred: boolean): Promise<void> {
    await call('experiments.update', { id, starred }).then(() => this.refresh(), notifyProblem)
  }

  async importFile(file: File): Promise<void> {
    await attempt(async () => importFile(await readText(file)))
  }
}
