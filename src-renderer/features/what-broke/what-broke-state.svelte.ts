import type { Comparison, QuestionComparison } from '#contract/comparison/compared-run.ts'
import type { BeginChoice } from '#contract/data/begin-token.ts'
import { toErrorMessage } from '#contract/errors.ts'
import type { Divergence, TokenPage } from '#contract/inspection/divergence.ts'
import { isOfSample } from '#contract/models/models.ts'
import type { DatasetEntry } from '#contract/pruning/methods.ts'
import type { RunDetail, RunEntry } from '#contract/runs/runs.ts'
import { call, on, onReconnect } from '../../api/api.ts'
import { failureOf } from '../../lib/failure.ts'
import { Loader } from '../../lib/loader.svelte.ts'
import { attempt, notifyProblem } from '../../lib/notices.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { RunChoice } from '../../lib/runs/run-choice.svelte.ts'
import { saveText } from '../../lib/save-file.ts'
import { stopAll } from '../../lib/schedule.ts'
import { fullHeat, HeatLayout, type TokenPlace } from './heat.ts'

/** The number of pages of tokens that are kept around the current one. Others are loaded again when they are needed. */
const pageLimit = 24

/** One analysis of runs against the dense model: its numbers, the pages of tokens loaded so far, and the current token. */
export class WhatBrokeState {
  run = new Loader<RunDetail>()
  questions = new Loader<QuestionComparison>()
  pages = $state.raw<ReadonlyMap<number, TokenPage>>(new Map())
  perLine = $state(14)
  current = $state.raw<TokenPlace>({ page: 0, at: 1 })
  currentRun = $state(0)
  #requested = new Set<number>()

  readonly id: string
  readonly divergence: Divergence | null = $derived.by(() => {
    const inspected = this.run.value?.inspected
    return inspected?.kind === 'divergence' ? inspected.divergence : null
  })
  readonly tokens: number[] = $derived(this.divergence?.pages ?? [...this.pages.values()].map(({ texts }) => texts.length))
  readonly layout: HeatLayout = $derived(new HeatLayout(this.tokens, this.perLine))
  readonly full: number = $derived(fullHeat(this.divergence))
  readonly names: string[] = $derived(
    this.divergence?.runs.map(({ run }) => run.name) ?? this.pages.get(0)?.runs.map((_, at) => `run ${at + 1}`) ?? [],
  )

  constructor(id: string) {
    this.id = id
  }

  follow(): () => void {
    void this.refresh()
    return stopAll(
      on('run changed', ({ run }) => run.id === this.id && void this.refresh()),
      on('run event', ({ run, recorded }) => {
        if (run !== this.id || recorded.event.type !== 'progress' || !this.run.value) return
        this.run.value = { ...this.run.value, progress: recorded.event.progress }
        // Pages are computed in order. Keep requesting the next one until it exists.
        if (!this.divergence) void this.load(this.pages.size)
      }),
      onReconnect(() => void this.refresh()),
    )
  }

  async refresh(): Promise<void> {
    await this.run.load(() => call('runs.get', { id: this.id }))
    void this.load(0)
    const [first] = this.divergence?.runs ?? []
    if (first) void this.compareQuestions(first.run.id)
  }

  /** Loads a page of tokens, unless it is loaded or being loaded. */
  async load(page: number): Promise<void> {
    if (this.pages.has(page) || this.#requested.has(page)) return
    this.#requested.add(page)
    try {
      const found = await call('runs.tokens', { id: this.id, page })
      if (!found) return
      const kept = [...this.pages].filter(([other]) => this.divergence === null || Math.abs(other - page) < pageLimit / 2)
      this.pages = new Map([...kept, [page, found] as const].sort(([a], [b]) => a - b))
    } catch (thrown) {
      if (toErrorMessage(thrown).code !== 'not-found') notifyProblem(thrown)
    } finally {
      this.#requested.delete(page)
    }
  }

  goTo(place: TokenPlace, run = this.currentRun): void {
    this.current = place
    this.currentRun = run
    void this.load(place.page)
  }

  /** Questions that a run answers differently from the dense model of its experiment. */
  async compareQuestions(run: string): Promise<void> {
    const { runs, baseline }: Comparison = await call('compare.get', { ids: [run] })
    const paired = runs.find(({ id }) => id === run)?.paired ?? []
    if (baseline === null || paired.length === 0) return
    await this.questions.load(() => call('compare.questions', { first: baseline, second: run, limit: 200 }))
  }

  async saveReport(): Promise<void> {
    const { experiment } = this.run.value ?? {}
    const runs = this.divergence?.runs.map(({ run }) => run.id) ?? []
    await attempt(async () => saveText(await call('reports.make', experiment ? { experiment: experiment.id } : { runs })))
  }
}

/** The choices for a new analysis. */
export class StartState {
  readonly choice = new RunChoice()
  earlier = $state.raw<RunEntry[]>([])
  /** Whether the lists were loaded. Until then, an empty list means nothing. */
  loaded = $state(false)
  datasets = $state.raw<DatasetEntry[]>([])
  source = $state('')
  #texts: DatasetEntry[] = []
  text = $state('')
  sequenceLength = $state(256)
  windows = $state(16)
  /** How windows begin, or `runs` for as in the chosen runs. */
  beginToken = $state<BeginChoice | 'runs'>('runs')
  problem = $state('')
  busy = $state(false)

  follow(): () => void {
    void this.load()
    return onReconnect(() => {
      this.problem = ''
      void this.load()
    })
  }

  async load(): Promise<void> {
    const failure = await failureOf(async () => {
      if (this.choice.ids.length === 0) await this.#takeNamed()
      const [made, catalogue] = await Promise.all([
        call('runs.query', { limit: 50, columns: [], conditions: [{ field: 'method', is: 'equal', value: 'divergence' }] }),
        call('methods.list', {}),
        this.choice.search(),
      ])
      this.earlier = made.rows
      this.loaded = true
      this.#texts = catalogue.datasets.filter(({ uses }) => uses.includes('evaluation'))
      this.#offer(this.#texts)
      await this.fitToModel()
    })
    if (failure) this.problem = failure.message
  }

  /** Chooses the runs that the address names, up to five. */
  async #takeNamed(): Promise<void> {
    const ids = (router.query.runs ?? '').split(',').filter(Boolean).slice(0, 5)
    const named = await Promise.all(ids.map((id) => call('runs.get', { id }).catch(() => null)))
    this.choice.chosen = named.filter((run) => run !== null)
  }

  /** Offers the texts meant for the chosen model. Sets windows as long as its context, up to 512 tokens, and about 4,096 tokens in all. */
  async fitToModel(): Promise<void> {
    const { model } = this.choice
    if (model === undefined) return
    const models = await call('models.list', {})
    const ofSample = isOfSample(model, models)
    this.#offer(this.#texts.filter((text) => ofSample || !text.ofSample))
    const contextLength = models.find(({ id }) => id === model)?.description.shape.contextLength ?? 512
    this.sequenceLength = Math.min(512, contextLength)
    this.windows = Math.max(1, Math.round(4096 / this.sequenceLength))
  }

  #offer(texts: DatasetEntry[]): void {
    this.datasets = texts
    if (this.source === 'own' || texts.some(({ source }) => source === this.source)) return
    this.source = (texts.find(({ present }) => present) ?? texts[0])?.source ?? 'own'
  }

  async start(): Promise<void> {
    this.busy = true
    this.problem = ''
    const failure = await failureOf(async () => {
      const source = this.source === 'own' ? (await call('texts.upload', { name: 'own-text.txt', content: this.text })).path : this.source
      const { sequenceLength, windows, beginToken } = this
      const made = await call('runs.inspect', {
        inspect: { kind: 'divergence', runs: this.choice.ids, data: { source, sequenceLength, windows } },
        ...(beginToken === 'runs' ? {} : { beginToken }),
      })
      router.go(['broke', made.id])
    })
    if (failure) this.problem = failure.message
    this.busy = false
  }
}
