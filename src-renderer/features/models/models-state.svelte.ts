import type { WorkbenchState } from '#contract/machine/settings.ts'
import type { ModelEntry, Transfer } from '#contract/models/models.ts'
import type { SecondsRange } from '#contract/runs/time/estimate.ts'
import { call, on, onMissed } from '../../api/api.ts'
import { catalogue } from '../../lib/catalogue.svelte.ts'
import { Loader } from '../../lib/loader.svelte.ts'
import { attempt } from '../../lib/notices.svelte.ts'
import { router } from '../../lib/router.svelte.ts'
import { stopAll } from '../../lib/schedule.ts'
import { containsWords } from '../../lib/search.ts'
import { measureIfSmall } from './add-model-state.svelte.ts'
import { choosePreset, isUnderWay, replaceById } from './models.ts'

/** The library as the screen shows it: models, transfers, and the sample experiment of the first start. */
export class ModelsState {
  models = new Loader<ModelEntry[]>()
  transfers = $state.raw<Transfer[]>([])
  workbench = $state.raw<WorkbenchState | null>(null)
  search = $state('')
  starting = $state(false)
  /** What this machine computes with, for the first start; empty until it is known. */
  device = $state('')
  /** Why nothing can be computed here; empty if that is not so. */
  deviceProblem = $state('')
  /** How long the sample experiment takes here; null until the machine has been timed. */
  sampleTime = $state.raw<SecondsRange | null>(null)

  get shown(): ModelEntry[] {
    return (this.models.value ?? []).filter(({ name, description, tags }) =>
      containsWords([name, catalogue.familyTitle(description.family), ...tags].join(' '), this.search),
    )
  }

  get moving(): Transfer[] {
    return this.transfers.filter(isUnderWay)
  }

  get sample(): ModelEntry | null {
    return this.models.value?.find(({ path }) => path === this.workbench?.sampleModel) ?? null
  }

  /** The model that was added last, except the sample. */
  get newest(): ModelEntry | undefined {
    return this.models.value?.filter(({ path }) => path !== this.workbench?.sampleModel).sort((a, b) => b.createdAt - a.createdAt)[0]
  }

  /** Loads the library and follows its changes. Returns a function that stops following. */
  follow(): () => void {
    this.refresh()
    return stopAll(
      on('model changed', ({ model }) => this.#change((models) => replaceById(models, model))),
      on('model removed', ({ id }) => this.#change((models) => models.filter((model) => model.id !== id))),
      on('transfer changed', ({ transfer }) => this.#follow(transfer)),
      on('engine changed', ({ engine }) => {
        this.device = engine.report?.device ?? ''
        if (engine.selfTest) void this.#timeSample()
      }),
      onMissed(() => this.refresh()),
    )
  }

  refresh(): void {
    void this.models.load(() => call('models.list', {})).then(() => this.#timeSample())
    void call('transfers.list', {}).then(
      (transfers) => (this.transfers = transfers),
      () => undefined,
    )
    void call('workbench.get', {}).then(
      (state) => {
        this.workbench = state
        if (state.runs === 0) void this.#findDevice()
        void this.#timeSample()
      },
      () => undefined,
    )
  }

  async #findDevice(): Promise<void> {
    const engine = await call('engine.get', {}).catch(() => null)
    this.device = engine?.report?.device ?? ''
    this.deviceProblem = engine?.problem ?? ''
  }

  /** Estimates the sample experiment before the first run, because a machine with active runs cannot be timed. */
  async #timeSample(): Promise<void> {
    const { workbench, sample } = this
    if (workbench?.runs !== 0 || !sample || this.sampleTime) return
    try {
      const preset = choosePreset(await call('experiments.presets', { model: sample.id }))
      this.sampleTime = (await call('experiments.preview', { grid: preset.grid })).seconds
    } catch {
      // The panel then shows no time.
    }
  }

  /** The first-start button: the smallest ready experiment on the sample model, queued at once. */
  async runSample(model: ModelEntry): Promise<void> {
    this.starting = true
    await attempt(async () => {
      const preset = choosePreset(await call('experiments.presets', { model: model.id }))
      const { experiment } = await call('experiments.create', { name: 'First look at the sample', grid: preset.grid, start: 'queue' })
      router.go(['experiments', experiment.id])
    })
    this.starting = false
  }

  async star(model: ModelEntry, starred: boolean): Promise<void> {
    await call('models.update', { id: model.id, starred })
  }

  async changeTransfer(transfer: Transfer, action: 'pause' | 'resume' | 'cancel'): Promise<void> {
    await attempt(async () => (this.transfers = replaceById(this.transfers, await call(`transfers.${action}`, { id: transfer.id }))))
  }

  /** Takes a transfer's new state. The begin token of a model that was downloaded just now is measured. */
  #follow(transfer: Transfer): void {
    const isNew = this.transfers.some(({ id, status }) => id === transfer.id && status === 'running')
    this.transfers = replaceById(this.transfers, transfer)
    const { kind, status, model } = transfer
    if (isNew && kind === 'download' && status === 'done' && model !== null)
      void call('models.get', { id: model }).then(measureIfSmall, () => undefined)
  }

  #change(change: (models: ModelEntry[]) => ModelEntry[]): void {
    if (this.models.value) this.models.value = change(this.models.value)
  }
}
