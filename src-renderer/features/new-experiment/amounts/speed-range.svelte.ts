import type { Input } from '#contract/api.ts'
import type { SpeedRange } from '#contract/exports/file-bench.ts'
import type { Transfer } from '#contract/models/models.ts'
import { titleOfMethod } from '#contract/titles.ts'
import { call, on } from '../../../api/api.ts'
import { formatPlural } from '../../../lib/format.ts'
import { attempt } from '../../../lib/notices.svelte.ts'

export type SpeedQuestion = Input<'bench.speeds'>

/** Measures which speeds a method can reach, before anything runs. */
export class SpeedRangeState {
  transfer = $state.raw<Transfer | null>(null)
  #question = $state('')
  /** The latest news of each transfer, because a measurement that fails at once may report before its call returns. */
  readonly #latest = new Map<string, Transfer>()

  /** Follows the measurement. Returns a function that stops following. */
  follow(): () => void {
    return on('transfer changed', ({ transfer }) => {
      this.#latest.set(transfer.id, transfer)
      if (transfer.id === this.transfer?.id) this.transfer = transfer
    })
  }

  /** The measurement of this question; null if there is none, or if it is of another question. */
  of(question: SpeedQuestion): Transfer | null {
    return this.#question === JSON.stringify(question) ? this.transfer : null
  }

  async measure(question: SpeedQuestion): Promise<void> {
    await attempt(async () => {
      const begun = await call('bench.speeds', question)
      this.transfer = this.#latest.get(begun.id) ?? begun
      this.#question = JSON.stringify(question)
    })
  }

  async cancel(): Promise<void> {
    const { transfer } = this
    if (transfer) await attempt(() => call('transfers.cancel', { id: transfer.id }))
  }
}

/** `Estimated from four files: 2SSP in F16 reaches 43 to 110 tokens/s on this machine.` */
export function speedRangeText({ method, weights = 'F16', speed }: SpeedQuestion, { from, to }: SpeedRange): string {
  const shown = (value: number) => Number(value.toPrecision(3))
  const unit = 'milliseconds' in speed ? `ms to the first token after ${formatPlural(speed.prompt, 'token')}` : 'tokens/s'
  if (from === to) return `${titleOfMethod(method)} in ${weights} changes nothing: ${shown(to)} ${unit} on this machine.`
  return `Estimated from four files: ${titleOfMethod(method)} in ${weights} reaches ${shown(from)} to ${shown(to)} ${unit} on this machine.`
}
