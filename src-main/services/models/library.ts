import { existsSync } from 'node:fs'
import { rm, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, resolve, sep } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { beginFigures } from '#contract/data/begin-token.ts'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import {
  type MeasuringProgress,
  type ModelDescription,
  type ModelDetail,
  type ModelEntry,
  modelDescription,
  type Transfer,
} from '#contract/models/models.ts'
import { isBeginStep, isContentsStep } from '#contract/runs/step-names.ts'
import { shownName } from '#contract/words.ts'
import { newId } from '#db/ids.ts'
import type { NewModel, StoredModel } from '#db/models.ts'
import { openHub } from '#hub/hub.ts'
import type { Context } from '../context.ts'
import { askDesk } from '../machine/ask-desk.ts'
import { currentSettings, hubOptions } from '../machine/current-settings.ts'
import { confine, safeFileName } from './folders.ts'
import { changedAt, copyCheckpoint, filesOf } from './library-files.ts'
import type { Move, Transfers } from './transfers.ts'

/** How long a removal can be undone. After that the row is deleted, and so are the files if requested. */
const undoMilliseconds = 30_000

/** Where a model came from. */
type Origin = Pick<NewModel, 'origin' | 'source' | 'parent' | 'run'> & { readonly name?: string | undefined }

/** The models in the library: adds, describes, copies, downloads and removes them. */
export class Library {
  readonly #context: Context
  readonly #transfers: Transfers
  #bundled: Promise<void> = Promise.resolve()
  readonly #measuring = new Map<string, Transfer>()

  constructor(context: Context, transfers: Transfers) {
    this.#context = context
    this.#transfers = transfers
    transfers.onResume('download', (request) => this.#downloadMove(request))
  }

  /** Describes a checkpoint from its headers alone. */
  async describe(path: string, signal?: AbortSignal): Promise<ModelDescription> {
    if (!existsSync(path))
      throw new EspalierError('not-found', `${path} does not exist. Give a folder with config.json and safetensors, or a gguf file.`)
    return modelDescription.parse(await askDesk(this.#context.desk, { kind: 'describe model', path }, signal))
  }

  /** All models, including the bundled one. */
  async list(): Promise<ModelEntry[]> {
    await this.#bundled
    return this.#context.history.models.list().map(toEntry)
  }

  find(id: string): StoredModel {
    const model = this.#context.history.models.find(id)
    if (!model || model.removedAt !== null) throw new EspalierError('not-found', `There is no model ${id} in the library.`)
    return model
  }

  /** The model with its files, parent and children. */
  async detail(id: string): Promise<ModelDetail> {
    const { history } = this.#context
    const model = this.find(id)
    void this.#describeAgain(model)
    const ancestors: ModelDetail['ancestors'] = []
    for (let up = model.parent; up !== null && ancestors.length < 20; ) {
      const parent = history.models.find(up)
      if (!parent) break
      ancestors.push({ id: parent.id, name: parent.name, run: parent.run })
      up = parent.parent
    }
    const reached = (run: string | null) => (run === null ? null : (history.runs.find(run)?.reached ?? null))
    const descendants = history.models.children(id).map(({ id: child, name, run }) => ({ id: child, name, run, reached: reached(run) }))
    return { ...toEntry(model), files: await filesOf(model.path), ancestors, descendants }
  }

  /** Describes the model again, because its files may have been replaced since it was added. If they cannot be read, nothing changes. */
  async #describeAgain({ id, path, description: before }: StoredModel): Promise<void> {
    const found = await Promise.all([this.describe(path), bytesOf(path), changedAt(path)]).catch(() => null)
    const { db, models, writes } = this.#context.history
    if (!found || !db.open) return
    const [description, bytes, changed] = found
    writes.later('models', () => {
      const now = models.find(id)
      if (now?.removedAt !== null) return
      const isStale = now.beginFigures !== null && now.beginFigures.measuredAt < changed
      if (isDeepStrictEqual(description, before) && !isStale) return
      models.patch(id, { description, bytes, ...(isStale ? { beginFigures: null } : {}) })
      this.tell(id)
    })
  }

  /** Starts to measure a model without and with its begin token, unless it is being measured. */
  measureBegin(id: string): Transfer {
    const { path, name, description, beginFigures: before } = this.find(id)
    const known = this.#measuring.get(id)
    if (known) return known
    if (!description.begins?.token)
      throw new EspalierError('invalid', `The tokenizer of "${name}" has no begin token, so there is nothing to measure.`)
    const { memoryBytes } = currentSettings(this.#context)
    const task = { kind: 'measure begin' as const, model: path, ...(memoryBytes === null ? {} : { memoryBytes }) }
    const work = { kind: 'bench' as const, name: `Begin token of ${name}`, totalBytes: null, about: id, request: { begin: id } }
    const { transfer, over } = this.#transfers.begin(work, async (signal, report, moveId) => {
      const measuredAt = Date.now()
      const claimant = { id: moveId, title: `the measurement of ${name}` }
      const onEvent = (event: unknown) => report(event as MeasuringProgress)
      const { exporter, history } = this.#context
      // Found by runs, as this finds theirs.
      const done: Pick<NonNullable<ModelEntry['beginFigures']>, 'step' | 'contents'> = {}
      const putStep = (asked: string, value: unknown) => {
        if (isBeginStep(asked)) done.step = asked
        if (isContentsStep(asked)) done.contents = { step: asked, fingerprint: String((value as { value: unknown }).value) }
      }
      const getStep = (asked: string) => {
        const own = before?.contents?.step === asked ? { value: { value: before.contents.fingerprint, seconds: 0 } } : undefined
        const found = own ?? history.steps.find(asked)
        if (found) putStep(asked, found.value)
        return found
      }
      const found = beginFigures.nullable().parse(await exporter.perform(task, { signal, claimant, onEvent, getStep, putStep }).result)
      await history.writes.write('models', () => {
        if (found) history.models.patch(id, { beginFigures: { ...found, measuredAt, ...done } })
        this.tell(id)
      })
      return null
    })
    this.#measuring.set(id, transfer)
    void over.finally(() => this.#measuring.delete(id))
    return transfer
  }

  /** Reports a model's current entry to listeners. */
  tell(id: string): ModelEntry {
    const model = toEntry(this.find(id))
    this.#context.emit({ name: 'model changed', data: { model } })
    return model
  }

  /** Adds a checkpoint to the library without copying it. */
  async register(path: string, facts: Origin): Promise<ModelEntry> {
    const { known, added } = await this.#include(path, facts)
    if (added) return added
    throw new EspalierError('conflict', `${path} is already in the library, as "${known.name}".`, { id: known.id })
  }

  /** Returns the model that the library already has at this path (`known`), or else adds it (`added`). */
  async #include(path: string, facts: Origin): Promise<{ known: StoredModel; added?: never } | { known?: never; added: ModelEntry }> {
    const { models, writes } = this.#context.history
    const before = models.atPath(path)
    if (before) return { known: before }
    const description = await this.describe(path)
    const bytes = await bytesOf(path)
    const id = newId('model')
    const wanted = shownName(facts.name ?? basename(path, extname(path) === '.gguf' ? '.gguf' : ''))
    const model = { ...facts, id, path, description, bytes, createdAt: Date.now() }
    // The call may have come a long way, such as a download, so it waits for the history.
    const known = await writes.write(
      'models',
      () => models.atPath(path) ?? void models.insert({ ...model, name: distinctName(wanted, path, new Set(models.namesBeside(path))) }),
    )
    return known ? { known } : { added: this.tell(id) }
  }

  /** Copies a checkpoint to the models folder. */
  async copyIn(from: string, name: string): Promise<ModelEntry> {
    await this.describe(from)
    const single = (await stat(from)).isFile()
    const { models } = currentSettings(this.#context).folders
    const to = confine(join(models, safeFileName(name) + (single ? extname(from) : '')), [models])
    if (existsSync(to)) throw new EspalierError('conflict', `${to} already exists. Choose another name.`)
    const totalBytes = await bytesOf(from)
    let doneBytes = 0
    let added: ModelEntry | undefined
    const { over } = this.#transfers.begin({ kind: 'copy', name, totalBytes, request: { from, to } }, async (signal, report) => {
      await copyCheckpoint(from, to, signal, (bytes) => {
        doneBytes += bytes
        report({ doneBytes })
      })
      added = await this.register(to, { name, origin: 'copied', source: from, parent: null, run: null })
      return added.id
    })
    const { status, problem } = await over
    if (!added) throw new EspalierError(status === 'cancelled' ? 'cancelled' : 'disk', problem ?? 'The copy was cancelled.')
    return added
  }

  /** Starts to download a model from the hub. */
  download(name: string, revision: string | undefined) {
    const request = { name, revision }
    return this.#transfers.begin({ kind: 'download', name, totalBytes: null, request }, this.#downloadMove(request)).transfer
  }

  #downloadMove({ name, revision }: Record<string, unknown>): Move {
    return async (signal, report) => {
      const hub = await openHub(hubOptions(this.#context))
      const path = await hub.fetchModel(String(name), revision === undefined ? undefined : String(revision), {
        signal,
        report: ({ done, total, perSecond, secondsLeft }) =>
          report({ doneBytes: done, totalBytes: total, bytesPerSecond: perSecond ?? null, secondsLeft: secondsLeft ?? null }),
      })
      const facts = { name: String(name), origin: 'downloaded', source: String(name), parent: null, run: null } as const
      const { known, added } = await this.#include(resolve(path), facts)
      return (known ?? added).id
    }
  }

  /** Removes a model, and later its files too if `files` is true. This can be undone until the returned time. */
  remove(id: string, files: boolean): { undoUntil: number } {
    const { history, emit } = this.#context
    const model = this.find(id)
    const busy = history.queue.running().some((run) => run.model === id)
    if (busy) throw new EspalierError('conflict', `"${model.name}" is in use by a run. Cancel it first.`)
    const owned = model.origin !== 'linked' && model.origin !== 'bundled'
    if (files && !owned)
      throw new EspalierError(
        'conflict',
        `The library does not own the files of "${model.name}", so it cannot delete them. Remove only the entry.`,
      )
    const now = Date.now()
    history.models.setRemoved(id, now, files)
    setTimeout(() => this.purgeSoon(), undoMilliseconds + 100).unref()
    emit({ name: 'model removed', data: { id } })
    return { undoUntil: now + undoMilliseconds }
  }

  restore(id: string): ModelEntry {
    const { models } = this.#context.history
    const model = models.find(id)
    if (!model) throw new EspalierError('not-found', `There is no removed model ${id} to restore.`)
    if (model.removedAt !== null && models.atPath(model.path))
      throw new EspalierError('not-found', `${model.path} was added to the library again, so there is nothing to restore.`)
    models.patch(id, { name: distinctName(model.name, model.path, new Set(models.namesBeside(model.path))) })
    models.setRemoved(id, null, false)
    return this.tell(id)
  }

  /** Makes those removals final that can no longer be undone. Files that cannot be deleted now are deleted after the next start. */
  purgeSoon(): void {
    this.#purge(Date.now()).catch((thrown: unknown) => console.error(`A removed model was kept: ${toErrorMessage(thrown).message}`))
  }

  async #purge(now: number): Promise<void> {
    const { db, models, writes } = this.#context.history
    if (!db.open) return
    const owned = Object.values(currentSettings(this.#context).folders).filter(Boolean)
    for (const model of models.removedBefore(now - undoMilliseconds)) {
      if (model.removeFiles && owned.some((folder) => dirname(model.path) === resolve(folder)))
        await rm(model.path, { recursive: true, force: true })
      writes.later('models', () => models.forget(model.id))
    }
  }

  /** Adds the bundled model to the library, unless it is already there or the user removed it. `list` waits for this. */
  registerBundled(path: string): void {
    this.#bundled = this.#addBundled(path)
  }

  async #addBundled(path: string): Promise<void> {
    const { history } = this.#context
    if (history.models.everAtPath(path)) return
    try {
      await this.register(path, { name: 'Sample model', origin: 'bundled', source: null, parent: null, run: null })
    } catch (thrown) {
      // Another process with the same data folder may have been faster, or this one may be closing.
      if (toErrorMessage(thrown).code === 'cancelled' || !history.db.open || history.models.everAtPath(path)) return
      console.error(`The sample model could not be added: ${thrown instanceof Error ? thrown.message : thrown}`)
    }
  }
}

/** The longest name that the contract allows. */
const longestName = 200

/** Returns a name that no other model has: the wanted one, or with as many folders of the path before it as tell it apart. */
export function distinctName(wanted: string, path: string, taken: ReadonlySet<string>): string {
  const folders = dirname(path).split(sep).filter(Boolean)
  const names = [wanted, ...folders.map((_, at) => `${folders.slice(-1 - at).join('/')}/${wanted}`)]
  const free = names.find((name) => !taken.has(name) && name.length <= longestName)
  if (free !== undefined) return free
  let number = 2
  while (taken.has(`${wanted}, ${number}`)) number += 1
  return `${wanted}, ${number}`
}

async function bytesOf(path: string): Promise<number> {
  return (await filesOf(path)).reduce((sum, { bytes }) => sum + bytes, 0)
}

function toEntry({ removedAt: _, removeFiles: __, ...model }: StoredModel): ModelEntry {
  return { ...model, present: existsSync(model.path) }
}
