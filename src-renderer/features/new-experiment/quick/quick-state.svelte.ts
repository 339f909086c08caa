import type { Input } from '#contract/api.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import type { QuickAnswer, QuickSizes, QuickTarget } from '#contract/experiments/experiments.ts'
import { call } from '../../../api/api.ts'
import { failureOf } from '../../../lib/failure.ts'
import { notify } from '../../../lib/notices.svelte.ts'
import { router } from '../../../lib/router.svelte.ts'
import { debounce, Latest } from '../../../lib/schedule.ts'
import { keptTarget } from '../kept-draft.ts'
import { startingSize } from './quick-text.ts'

/** The three questions and their answer: a small experiment, previewed while the questions are answered. */
export class QuickState {
  sizes = $state.raw<QuickSizes | null>(null)
  kind = $state<'size' | 'speed'>('size')
  bytes = $state(0)
  tokensPerSecond = $state<number | null>(null)
  answer = $state.raw<QuickAnswer | null>(null)
  problem = $state('')
  /** Whether the answer shown belongs to other choices. */
  isStale = $state(true)
  /** Whether the button was pressed: the experiment starts once the answer to the last choices is known. */
  starting = $state(false)
  /** Whether the user set the target, now or on an earlier visit. */
  isChanged = $state(false)
  #name = ''
  /** The model and the text of the last question, and the whole question. */
  #subject = ''
  #asked = ''
  readonly #asking = new Latest()
  #isCreating = false
  /** Why the sizes of the model are unknown. */
  #sizesProblem = ''
  #again = (): void => undefined
  #model = ''

  readonly target: QuickTarget | null = $derived(
    this.kind === 'size'
      ? { bytes: Math.round(this.bytes) }
      : this.tokensPerSecond === null
        ? null
        : { tokensPerSecond: this.tokensPerSecond },
  )
  readonly #askSoon = debounce((asked: string, question: Input<'experiments.quick'>) => void this.#ask(asked, question), 300)

  /** Loads the sizes of a model. */
  async take(model: string): Promise<void> {
    if (model === this.#model) return
    this.#model = model
    this.sizes = null
    this.answer = null
    this.problem = ''
    this.#sizesProblem = ''
    const kept = keptTarget.get(model)
    this.kind = kept?.kind ?? this.kind
    this.tokensPerSecond = kept?.tokensPerSecond ?? null
    this.isChanged = kept !== null
    if (model === '') return
    const failure = await failureOf(async () => {
      const sizes = await call('experiments.sizes', { model })
      if (model !== this.#model) return
      this.sizes = sizes
      // Start over may have forgotten the target meanwhile.
      this.bytes = (this.isChanged && kept?.bytes) || startingSize(sizes)
    })
    if (!failure || model !== this.#model) return
    this.#sizesProblem = failure.message
    this.problem = failure.message
    this.starting = false
  }

  /** Wants again what the form began with. */
  startOver(): void {
    this.kind = 'size'
    this.bytes = this.sizes ? startingSize(this.sizes) : 0
    this.tokensPerSecond = null
    this.isChanged = false
    this.starting = false
    keptTarget.set(null)
  }

  /** Sets what the user wants, and keeps it for the next time the form is opened with this model. */
  want(wanted: Partial<Pick<QuickState, 'kind' | 'bytes' | 'tokensPerSecond'>>): void {
    Object.assign(this, wanted)
    this.isChanged = true
    this.starting = false
    const { kind, bytes, tokensPerSecond } = this
    keptTarget.set({ model: this.#model, kind, bytes, tokensPerSecond })
  }

  /** Asks for the answer to the questions, once they have not changed for a moment. */
  lookAt(model: string, text: DataRequest | null, target: QuickTarget | null): void {
    const subject = JSON.stringify([model, text])
    const asked = JSON.stringify([subject, target])
    if (asked === this.#asked) return
    // A target that arrives with the sizes is no choice of the user's.
    if (subject !== this.#subject) this.starting = false
    this.#subject = subject
    this.#drop(asked)
    this.isStale = true
    if (this.kind === 'size' && this.#sizesProblem) this.problem = this.#sizesProblem
    if (model === '' || text?.source === '' || target === null) return
    this.problem = ''
    this.#again = () => this.#askSoon(asked, { model, text, target })
    this.#again()
  }

  /** Stops the last question, for another or for none. */
  #drop(asked: string): void {
    this.#asking.stop()
    this.#asked = asked
  }

  /** Stops the question of a page that is left, unless the experiment starts once it is answered. */
  leave(): void {
    if (!this.starting) this.#drop('')
  }

  async #ask(asked: string, question: Input<'experiments.quick'>): Promise<void> {
    if (asked !== this.#asked) return
    const signal = this.#asking.begin()
    let answer: QuickAnswer | null = null
    const failure = await failureOf(async () => {
      answer = await call('experiments.quick', question, signal)
    })
    if (signal.aborted) return
    this.answer = answer
    this.problem = failure?.message ?? ''
    this.isStale = false
    if (this.starting) await this.#create()
  }

  /** Asks again once the machine has been timed, because only then is the time known. */
  refresh(): void {
    if (this.answer?.preview.seconds === null) this.#again()
  }

  /** Starts the experiment, now or once the answer to the last choices is known. Another choice in between takes this back. */
  async start(name: string): Promise<void> {
    if ((this.kind === 'size' && this.#sizesProblem) || (this.target === null && (this.sizes || this.kind === 'speed'))) return
    this.#name = name
    this.starting = true
    if (!this.isStale) await this.#create()
  }

  async #create(): Promise<void> {
    const { answer } = this
    // The machine may have been timed meanwhile, which brings another answer.
    if (this.#isCreating) return
    this.#isCreating = true
    const failure = await failureOf(async () => {
      if (!answer || answer.preview.problems.length > 0) return
      const { experiment } = await call('experiments.create', { name: this.#name || answer.name, grid: answer.grid, start: 'queue' })
      notify('Quick answer started')
      router.go(['experiments', experiment.id])
    })
    if (failure) this.problem = failure.message
    this.#isCreating = false
    this.starting = false
  }
}
