import { type ErrorMessage, toErrorMessage } from '#contract/errors.ts'
import type { GridInput, GridPreview, Preset } from '#contract/experiments/experiments.ts'
import { type ModelEntry, smallerSiblings } from '#contract/models/models.ts'
import { isPlain } from '#contract/runs/amount-text.ts'
import type { Problem } from '#contract/runs/request-preview.ts'
import { type GgufType, ggufTypesOf, isAblation } from '#contract/titles.ts'
import { call, on } from '../../api/api.ts'
import { catalogue, loadCatalogue } from '../../lib/catalogue.svelte.ts'
import { failureOf } from '../../lib/failure.ts'
import { formatPlural } from '../../lib/format.ts'
import { Loader } from '../../lib/loader.svelte.ts'
import { notify } from '../../lib/notices.svelte.ts'
import { formatHash } from '../../lib/route.ts'
import { router } from '../../lib/router.svelte.ts'
import { debounce, Latest, stopAll } from '../../lib/schedule.ts'
import { blockSparsities, limitText, missedSparsities, sharedSparsities } from './amounts/amounts.ts'
import type { SpeedQuestion } from './amounts/speed-range.svelte.ts'
import {
  changedFields,
  type Draft,
  defaultDraft,
  emptyDraft,
  fromGrid,
  isUnfinished,
  keepOwn,
  presetOf,
  suggestedName,
  textsAfter,
  toGrid,
  withoutAbsent,
} from './grid.ts'
import { loadDraft, storeDraft } from './kept-draft.ts'
import { type FieldProblem, nameField } from './problem-text.ts'
import { decidingModel, offeredTexts, suitTexts } from './texts/texts.ts'

/** The length of windows of a text of the user's own. */
const ownTextTokens = 256

/** The form of a new experiment, and the preview of its runs. */
export class DraftState {
  draft = $state<Draft>(emptyDraft())
  models = $state.raw<ModelEntry[]>([])
  presets = $state.raw<Preset[]>([])
  /** Names of the clusters that runs can be sent to. */
  clusters = $state.raw<string[]>([])
  preview = new Loader<GridPreview>()
  /** Sparsities near the requested ones that all methods reach; empty if none misses a requested one, and while they are not known. */
  shared = $state.raw<readonly number[]>([])
  /** Whether the models are known, so that the form can be filled in. */
  listed = $state(false)
  /** Whether the first draft is known, so that the form can be previewed and run. */
  ready = $state(false)
  creating = $state(false)
  problem = $state.raw<ErrorMessage | null>(null)
  #nextKey = 1000

  /** The number of changes of the draft. `#previewed` is the number at the last preview. */
  #changes = $state(0)
  #previewed = $state(0)

  readonly #previewing = new Latest()
  #isLeft = false

  readonly #previewSoon = debounce(() => void this.#loadPreview(), 200)

  /** The query of the address, which says what the form starts from: a run or an experiment (`from`), a model, or neither. */
  readonly #query: Record<string, string>
  /** The draft before the user changed anything, as JSON. */
  #first = $state('')
  /** The fields that the user set, such as `name` and `calibration.windows`. Answers that arrive later do not change them. */
  readonly #own = new Set<string>()
  #firstPresets: readonly Preset[] = []

  /** Whether the whole form is shown. Otherwise nothing is previewed. */
  readonly #isShown: () => boolean

  constructor(query: Record<string, string>, isShown: () => boolean) {
    this.#query = query
    this.#isShown = isShown
  }

  /** Continues the stored draft. Without one, starts from a run or an experiment, the first preset of the model, or defaults. */
  async start(): Promise<void> {
    const failure = await failureOf(async () => {
      const [models, clusters] = await Promise.all([call('models.list', {}), call('clusters.list', {})])
      this.clusters = clusters.map(({ name }) => name)
      this.models = models
      const first = this.#query.from ? undefined : this.#firstModel
      if (first) this.draft.models = [first.id]
      this.listed = true
      await loadCatalogue()
      await this.#fillIn(models)
      this.#nextKey += Math.max(0, ...this.draft.methods.map(({ key }) => key))
      this.ready = true
      this.changed()
    })
    if (failure) this.problem = failure
  }

  /** Fills in what the user has not set meanwhile: the stored draft, or else the first draft. */
  async #fillIn(models: readonly ModelEntry[]): Promise<void> {
    const first = await this.#firstDraft()
    this.#first = JSON.stringify(first)
    const stored = loadDraft(
      this.#origin,
      models.map(({ id }) => id),
    )
    const own = this.#own.has('models') ? this.draft.models : null
    this.draft = keepOwn(stored ?? first, this.draft, this.#own)
    if (stored || own) await this.#suitTexts()
  }

  /** The model of the address, or else the first one whose files are there. */
  get #firstModel(): ModelEntry | undefined {
    const { models } = this
    return models.find(({ id }) => id === this.#query.model) ?? models.find(({ present }) => present) ?? models[0]
  }

  async #firstDraft(): Promise<Draft> {
    const { from, name = '' } = this.#query
    const model = this.#firstModel
    if (model) this.presets = await call('experiments.presets', { model: model.id })
    this.#firstPresets = this.presets
    const copied = from ? await this.#copyOf(from) : null
    if (copied) return { ...copied, name }
    return model && catalogue.value ? defaultDraft(catalogue.value, model.id, this.presets) : emptyDraft()
  }

  /** The form that makes a run or an experiment again; null if there is none, which is said. */
  async #copyOf(id: string): Promise<Draft | null> {
    try {
      return fromGrid(await call('experiments.grid', { id }))
    } catch (thrown) {
      this.problem = toErrorMessage(thrown)
      return null
    }
  }

  get #origin(): string {
    return Object.keys(this.#query).length > 0 ? formatHash(['new'], this.#query) : ''
  }

  /** Whether the user has changed anything. */
  get isChanged(): boolean {
    return this.ready && JSON.stringify(this.draft) !== this.#first
  }

  /** Stores the draft, so that it survives reloads and visits to other screens. */
  keep(): void {
    if (this.ready) storeDraft(this.#origin, this.isChanged ? this.draft : null)
  }

  startOver(): void {
    this.#own.clear()
    this.draft = JSON.parse(this.#first)
    this.presets = [...this.#firstPresets]
    this.changed()
  }

  /** Whether the preview still shows an earlier draft. */
  get isPreviewing(): boolean {
    // A draft that is not finished has no preview to wait for.
    return this.#previewed < this.#changes && !isUnfinished(this.draft)
  }

  /** Loads a preview, and stops the one of an earlier draft, which would delay it. */
  async #loadPreview(): Promise<void> {
    if (!this.isPreviewing || this.#isLeft) return
    const signal = this.#previewing.begin()
    const changes = this.#changes
    await this.preview.load(() => call('experiments.preview', { grid: this.#grid() }, signal))
    if (signal.aborted) return
    this.#previewed = changes
    void this.#findShared(changes, signal)
  }

  /** Asks which sparsities all methods reach, if one of them misses a requested one. */
  async #findShared(changes: number, signal: AbortSignal): Promise<void> {
    const asked = missedSparsities(this.preview.value?.combinations ?? [])
    const chosen = this.models.filter(({ id }) => this.draft.models.includes(id))
    const near = chosen.flatMap(({ description }) => blockSparsities(asked, description.blocks.length))
    if (near.length === 0) {
      this.shared = []
      return
    }
    const amounts = [...new Set([...asked, ...near])].map((sparsity) => ({ sparsity }))
    const found = await call('experiments.preview', { grid: { ...this.#grid(), amounts } }, signal).catch(() => null)
    if (found && changes === this.#changes) this.shared = sharedSparsities(asked, found.combinations)
  }

  /** Previews again once the machine has been timed, because only then is the time known. The function that ends this stops previews. */
  follow(): () => void {
    const previewAgain = on('engine changed', ({ engine }) => engine.selfTest && this.preview.value?.seconds === null && this.changed())
    return stopAll(previewAgain, () => {
      this.#isLeft = true
      this.#previewing.stop()
    })
  }

  /** Called after every change of the draft. */
  changed(): void {
    if (!this.ready || !this.#isShown() || isUnfinished(this.draft)) return
    this.#changes += 1
    this.#previewSoon()
  }

  /** Makes changes of the user. */
  change(changes: Partial<Draft>): void {
    for (const field of changedFields(this.draft, changes)) this.#own.add(field)
    Object.assign(this.draft, changes)
    this.changed()
  }

  async chooseModels(models: string[]): Promise<void> {
    this.#own.add('models')
    this.draft.models = models
    this.draft.siblings = this.draft.siblings.filter((sibling) => this.siblings.some(({ id }) => id === sibling))
    const failure = await failureOf(() => this.#suitTexts())
    if (failure) this.problem = failure
    this.changed()
  }

  /** Gives the draft the presets and texts of its models. */
  async #suitTexts(): Promise<void> {
    const { models } = this.draft
    const model = decidingModel(models, this.models)
    const [before] = this.presets
    if (!model || !before || before.grid.models.includes(model)) return
    const presets = await call('experiments.presets', { model })
    const [after] = presets
    if (!after || models !== this.draft.models) return
    this.presets = presets
    const datasets = catalogue.value?.datasets ?? []
    const offered = offeredTexts(datasets, models, this.models)
    const withheld = datasets.filter((dataset) => !offered.includes(dataset)).map(({ source }) => source)
    Object.assign(this.draft, suitTexts(this.draft, fromGrid(before.grid), fromGrid(after.grid), withheld, this.#own))
  }

  /** Prunes for general text, or for a text of the user's own, whose path is still to be named. */
  choosePurpose(own: boolean): void {
    const general = this.presets[0]?.grid.calibration ?? null
    const text = { source: '', sequenceLength: ownTextTokens, split: { part: 'choosing' as const, seed: 0 } }
    this.change(textsAfter(this.draft, own ? text : general))
  }

  choosePreset(preset: Preset): void {
    const { name, models } = this.draft
    this.#own.clear()
    this.draft = { ...fromGrid(preset.grid), name, models }
    this.#own.add('name').add('models')
    this.changed()
  }

  /** Leaves out texts and tasks that cannot be downloaded. */
  leaveOut(ids: readonly string[]): void {
    const offered = offeredTexts(catalogue.value?.datasets ?? [], this.draft.models, this.models)
    this.change(
      withoutAbsent(
        this.draft,
        ids,
        offered.filter(({ present, source }) => present && !ids.includes(source)),
      ),
    )
  }

  addMethod(method: string): void {
    this.#nextKey += 1
    this.change({ methods: [...this.draft.methods, { key: this.#nextKey, method, options: {} }] })
  }

  removeMethod(key: number): void {
    this.change({ methods: this.draft.methods.filter((entry) => entry.key !== key) })
  }

  setOption(key: number, name: string, value: unknown): void {
    const entry = this.draft.methods.find((method) => method.key === key)
    if (!entry) return
    const { [name]: _, ...others } = entry.options
    entry.options = value === undefined ? others : { ...others, [name]: value }
    this.#own.add('methods')
    this.changed()
  }

  /** The preset that makes the same runs as the form. */
  get preset(): Preset | undefined {
    return presetOf(this.draft, this.presets)
  }

  /** Names of the chosen models and of their smaller siblings, by id. */
  get modelNames(): Map<string, string> {
    const chosen = [...this.draft.models, ...this.draft.siblings]
    return new Map(this.models.filter(({ id }) => chosen.includes(id)).map(({ id, name }) => [id, name]))
  }

  /** The question which speeds the first method reaches on the first model; null if the form has no speed. Typed values do not matter. */
  get speedQuestion(): SpeedQuestion | null {
    const { models, methods, amounts, weights } = this.draft
    const [model] = models
    const wanted = amounts.find((amount) => !isPlain(amount) && !('bytes' in amount))
    const first = methods.find(({ method }) => !isAblation(method))
    const type = weights.find((one) => one !== 'computed')
    if (!model || !wanted || !first) return null
    const speed = 'prompt' in wanted ? { milliseconds: 1, prompt: wanted.prompt } : { tokensPerSecond: 1 }
    return { model, method: first.method, options: $state.snapshot(first.options), speed, ...(type ? { weights: type } : {}) }
  }

  /** Smaller models that may be rivals of the pruned models. */
  get siblings(): ModelEntry[] {
    const { models } = this.draft
    const chosen = this.models.filter(({ id }) => models.includes(id))
    return [...new Set(chosen.flatMap((model) => smallerSiblings(model, this.models)))].filter(({ id }) => !models.includes(id))
  }

  /** GGUF types that all chosen models can be written in. */
  get ggufTypes(): GgufType[] {
    const chosen = this.models.filter(({ id }) => this.draft.models.includes(id)).map(({ description }) => ggufTypesOf(description))
    return ggufTypesOf({ format: 'gguf' }).filter(
      (type) => (type !== 'SOURCE' || chosen.length > 0) && chosen.every((types) => types.includes(type)),
    )
  }

  /** The name of the experiment unless the user types another. */
  get suggestedName(): string {
    return (
      this.preset?.title ??
      suggestedName(
        this.draft,
        catalogue.methodTitle,
        this.draft.models.flatMap((id) => this.modelNames.get(id) ?? []),
      )
    )
  }

  /** The last preview; null while what was asked for is refused, as the last one is of another draft then. */
  get shownPreview(): GridPreview | null {
    return this.preview.problem ? null : this.preview.value
  }

  /** Names the first combination that is out of reach, and says what to choose instead. */
  get limit(): string | null {
    const combination = this.shownPreview?.combinations.find(({ feasible }) => !feasible)
    return combination ? `${combination.name}: ${limitText(combination)}` : null
  }

  /** The problems of the preview, which name fields as the form does. */
  get problems(): Problem[] {
    return (this.shownPreview?.problems ?? []).map((problem) => ({ ...problem, message: nameField(problem, this.#optionOf) }))
  }

  problemOf(field: string): string | null {
    return this.problems.find((problem) => problem.field === field || problem.field.startsWith(`${field}.`))?.message ?? null
  }

  /** Says what a call refused, naming fields as the form does; null if nothing was. */
  explain(problem: ErrorMessage | null): string | null {
    if (!problem) return null
    const issues = problem.details?.issues
    return Array.isArray(issues) ? issues.map((issue: FieldProblem) => nameField(issue, this.#optionOf)).join(' ') : problem.message
  }

  readonly #optionOf = (entry: number, option: string): string => {
    const method = this.draft.methods[entry]?.method ?? ''
    return `${catalogue.optionLabel(method, option)} of ${catalogue.methodTitle(method)}`
  }

  get blocked(): boolean {
    const preview = this.preview.value
    return (
      !this.ready ||
      !preview ||
      isUnfinished(this.draft) ||
      preview.problems.length > 0 ||
      preview.combinations.some(({ feasible }) => !feasible) ||
      this.preview.problem !== null
    )
  }

  #grid(): GridInput {
    return toGrid(this.draft)
  }

  async create(start: 'queue' | 'draft'): Promise<void> {
    this.creating = true
    this.problem = null
    this.problem = await failureOf(async () => {
      const name = this.draft.name.trim() || this.suggestedName
      const { experiment, runs } = await call('experiments.create', { name, grid: this.#grid(), executor: this.draft.executor, start })
      notify(start === 'queue' ? `${formatPlural(runs.length, 'run')} queued` : `${formatPlural(runs.length, 'run')} saved as drafts`)
      this.#first = JSON.stringify(this.draft)
      this.keep()
      router.go(['experiments', experiment.id])
    })
    this.creating = false
  }
}
