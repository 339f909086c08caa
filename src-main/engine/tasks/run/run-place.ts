import { beginText } from '#contract/data/begin-token.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import type { Precision } from '#contract/pruning/precision.ts'
import type { TokenRanking } from '#contract/pruning/token-ranking.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { beginLabel } from '#contract/runs/step-names.ts'
import { openPart } from '#contract/runs/time/progress.ts'
import { type CountedText, countData } from '#engine/data/count-tokens.ts'
import { type DataSources, type ReadData, readData } from '#engine/data/read-data.ts'
import type { Windows } from '#engine/data/windows.ts'
import { type Begin, beginPhase, beginRequest, decideBegin, measureBegin } from '#engine/evaluation/begin-token.ts'
import { acquireModel, openModelTokenizer } from '#engine/model/kept-model.ts'
import { type Model, withProducts } from '#engine/model/model.ts'
import { productsFor, resolvePrecision } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import type { TrimmedTokenizer } from '#engine/tokenizer/reread-windows.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { type RunHost, RunSteps } from './run-steps.ts'

/** A vocabulary that lost rows before anything else was done. */
interface Trimmed {
  readonly whole: RunPlace
  readonly tokens: TrimmedTokenizer
  readonly ranking: TokenRanking | undefined
}

const countStep: StepKind = { version: 1 }

/** State that all parts of a run share: the request, the open model, its steps and its notes. */
export class RunPlace {
  readonly request: RunRequest
  readonly model: Model
  readonly tokenizer: Tokenizer | undefined
  readonly precision: Precision
  readonly steps: RunSteps
  readonly notes: string[]
  /** The tokens that this model has, if the run removed the other rows of the vocabulary first; and the place with all of them. */
  readonly trimmed: Trimmed | undefined
  /** The windows read last. If a value becomes NaN or infinite, they are used to find where. */
  lastRead: Windows = []
  #begin: Promise<Begin> | undefined

  constructor(parts: Pick<RunPlace, 'request' | 'model' | 'tokenizer' | 'precision' | 'steps'> & { readonly trimmed?: Trimmed }) {
    const { request, model, tokenizer, precision, steps, trimmed } = parts
    this.request = request
    this.model = model
    this.tokenizer = tokenizer
    this.precision = precision
    this.steps = steps
    this.trimmed = trimmed
    this.notes = trimmed?.whole.notes ?? []
  }

  note(text: string): void {
    this.notes.push(text)
    this.steps.host.emit({ type: 'note', text })
  }

  async read(data: DataRequest, seed: number, only: Pick<DataSources, 'accepts' | 'choose' | 'write'> = {}): Promise<ReadData> {
    const { fetchFile, signal } = this.steps.host
    const report = { signal, progress: (done: number, total: number) => this.steps.progress('Reading text', done, total, 'tokens') }
    const { id: begin } = await this.begin()
    const reread = this.trimmed && ((ids: Int32Array) => this.trimmed?.tokens.reread(ids) ?? ids)
    const sources = { localFolder: this.request.localFolder, fetchFile, report, begin, reread, ...only }
    const found = await this.steps.time('reading text', () => readData(this.model, this.tokenizer, data, seed, sources))
    this.lastRead = found.windows
    return found
  }

  /** Counts the tokens of all of a text. */
  count(data: DataRequest, tokenizer: Tokenizer): Promise<CountedText & { used: UsedData }> {
    const { fetchFile } = this.steps.host
    const sources = { localFolder: this.request.localFolder, ...(fetchFile ? { fetchFile } : {}) }
    const run = {
      signal: this.steps.host.signal,
      progress: (phase: string, done: number, total: number, unit: string) => this.steps.progress(phase, done, total, unit),
      keep: <T>(on: { readonly hash: string; readonly size: number }, compute: () => Promise<T>) =>
        this.steps.step({ kind: countStep, label: 'token counts', on }, compute),
    }
    return this.steps.time('reading text', () => countData(tokenizer, this.model.spec.vocabulary, data, sources, run))
  }

  /** How the windows of this run begin. Decided when it is first needed. */
  begin(): Promise<Begin> {
    this.#begin ??= this.#decideBegin()
    return this.#begin
  }

  async #decideBegin(): Promise<Begin> {
    if (this.trimmed) {
      const { whole, tokens } = this.trimmed
      const { id, used } = await whole.begin()
      return { id: id === undefined ? undefined : tokens.kept.indexOf(id), used }
    }
    const { beginToken: asked = 'reference' } = this.request
    const { steps, model, tokenizer } = this
    const report = {
      signal: steps.host.signal,
      progress: (done: number, total: number) => steps.progress(beginPhase, done, total, 'submodules'),
    }
    // Float32 whatever the run's precision, so that all runs of a model decide alike.
    const view = denseView(withProducts(model, productsFor('float32')))
    const begin = await decideBegin(asked, { spec: model.spec, tokenizer }, (windows, id) =>
      steps.aside(beginLabel, () => steps.step(beginRequest(windows, id), () => measureBegin(view, windows, id, report))),
    )
    if (begin.id !== undefined) this.note(beginText(begin.used))
    return begin
  }
}

/** Opens the request's model in its precision, and identifies the model by its fingerprint. */
export async function openPlace(request: RunRequest, host: RunHost, backend: string): Promise<{ place: RunPlace; fingerprint: string }> {
  const steps = new RunSteps(host)
  const opened = await steps.time(openPart, () => acquireModel(request.model, request.memoryBytes))
  const { precision: wanted = 'float32' } = request
  const precision = resolvePrecision(wanted, opened.spec)
  const model = withProducts(opened, productsFor(precision))
  const fingerprint = await steps.identify(model, { backend, precision })
  host.emit({ type: 'model', fingerprint })
  const place = new RunPlace({ request, model, tokenizer: await openModelTokenizer(model), precision, steps })
  if (wanted !== 'auto' && wanted !== precision)
    place.note(`Computed in float32, not in ${wanted}: 16-bit products do not support attention sinks or limits on neurons.`)
  return { place, fingerprint }
}
