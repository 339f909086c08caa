import type { Listener } from '#contract/events.ts'
import type { QueueState } from '#contract/runs/queue.ts'
import type { History } from '#db/history.ts'

/** Changes within this interval are reported together. */
const tellMilliseconds = 50

/** Reports changes to listeners: those of runs at once, those of the queue and of experiments together after a short delay. */
export class QueueNews {
  readonly #history: History
  readonly #emit: Listener
  readonly #state: () => QueueState
  readonly #experiments = new Set<string>()
  #telling: NodeJS.Timeout | undefined
  #ended = false

  constructor(history: History, emit: Listener, state: () => QueueState) {
    this.#history = history
    this.#emit = emit
    this.#state = state
  }

  tell(numbers: readonly number[]): void {
    this.#history.writes.guard(() => {
      for (const run of this.#history.runs.entries(numbers)) {
        this.#emit({ name: 'run changed', data: { run } })
        if (run.experiment) this.#experiments.add(run.experiment.id)
      }
    })
    this.#telling ??= setTimeout(() => this.#tellRest(), tellMilliseconds).unref()
  }

  #tellRest(): void {
    this.#telling = undefined
    if (this.#ended) return
    this.#history.writes.guard(() => {
      this.#emit({ name: 'queue changed', data: { queue: this.#state() } })
      for (const id of this.#experiments) {
        const experiment = this.#history.experiments.find(id)
        if (experiment) this.#emit({ name: 'experiment changed', data: { experiment } })
      }
      this.#experiments.clear()
    })
  }

  /** Drops pending reports. */
  end(): void {
    this.#ended = true
    clearTimeout(this.#telling)
  }
}
