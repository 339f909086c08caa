import type { FormatOutline } from '#contract/exports/exports.ts'
import type { Transfer } from '#contract/models/models.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { call, on } from '../../../api/api.ts'
import { failureOf } from '../../../lib/failure.ts'
import { arrangeOutlines, choiceKey, measuredKey } from './save-choices.ts'

/** The save dialog: the size of the model in each format, the chosen formats, and the progress of writing. */
export class SaveState {
  readonly run: string
  /** The way to save that the run's numbers are about; null if they are about no file. */
  readonly measured: string | null
  name = $state('')
  outlines = $state.raw<FormatOutline[] | null>(null)
  problem = $state<string | null>(null)
  chosen = $state<string[]>([])
  transfer = $state.raw<Transfer | null>(null)
  /** True from the click until the first progress. */
  starting = $state(false)

  readonly running: boolean = $derived(this.transfer?.status === 'running' || this.transfer?.status === 'waiting')

  constructor({ id, request }: Pick<RunDetail, 'id' | 'request'>) {
    this.run = id
    this.measured = measuredKey(request)
  }

  /** Loads the sizes of the formats and follows the save. Returns a function that stops following. */
  follow(): () => void {
    void this.#load()
    return on('transfer changed', ({ transfer }) => {
      if (transfer.id === this.transfer?.id) this.transfer = transfer
    })
  }

  async #load(): Promise<void> {
    const failure = await failureOf(async () => {
      this.outlines = (await call('runs.formats', { id: this.run })).formats
      const [first] = arrangeOutlines(this.outlines, this.measured).first
      if (this.chosen.length === 0 && first) this.chosen = [choiceKey(first)]
    })
    if (failure) this.problem = failure.message
  }

  choose(key: string, chosen: boolean): void {
    this.chosen = chosen ? [...this.chosen, key] : this.chosen.filter((other) => other !== key)
  }

  async save(): Promise<void> {
    const wanted = (this.outlines ?? []).filter((outline) => this.chosen.includes(choiceKey(outline)))
    const formats = [...new Set(wanted.map(({ format }) => format))]
    const ggufTypes = wanted.flatMap(({ type }) => (type === null ? [] : [type]))
    const name = this.name.trim()
    this.starting = true
    this.problem = null
    const failure = await failureOf(async () => {
      this.transfer = await call('runs.save', {
        id: this.run,
        formats,
        ...(ggufTypes.length > 0 ? { ggufTypes } : {}),
        ...(name ? { name } : {}),
      })
    })
    if (failure) this.problem = failure.message
    this.starting = false
  }

  async cancel(): Promise<void> {
    if (this.transfer && this.running) this.transfer = await call('transfers.cancel', { id: this.transfer.id })
  }
}
