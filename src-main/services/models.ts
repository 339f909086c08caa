import { existsSync } from 'node:fs'
import { rm, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { type ModelDescription, type ModelDetail, type ModelEntry, modelDescription } from '#contract/models.ts'
import { newId } from '#db/ids.ts'
import type { NewModel, StoredModel } from '#db/models.ts'
import { openHub } from '#hub/hub.ts'
import { checkRepository, checkRevision } from '#hub/names.ts'
import type { Context, Service } from './context.ts'
import { confine, safeFileName } from './folders.ts'
import { browse, copyCheckpoint, filesOf } from './library-files.ts'
import { currentSettings, hubOptions } from './settings.ts'
import type { Move, Transfers } from './transfers.ts'

/** How long a removed model can be brought back before its row, and its files where asked, go. */
export const undoMilliseconds = 30_000

export type Library = ReturnType<typeof modelsService>

/** The library: checkpoints by folder, file or hub name, with what they are, where they came from and who uses them. */
export function modelsService(context: Context, transfers: Transfers) {
  const { history, emit, desk } = context
  let bundled: Promise<void> = Promise.resolve()

  async function describe(path: string): Promise<ModelDescription> {
    if (!existsSync(path))
      throw new EspalierError('not-found', `There is nothing at ${path}. Give a folder with config.json and safetensors, or a gguf file.`)
    return modelDescription.parse(await desk.perform({ kind: 'describe model', path }).result)
  }

  const toEntry = ({ removedAt: _, removeFiles: __, ...model }: StoredModel): ModelEntry => ({ ...model, present: existsSync(model.path) })

  function find(id: string): StoredModel {
    const model = history.models.find(id)
    if (!model || model.removedAt !== null) throw new EspalierError('not-found', `There is no model ${id} in the library.`)
    return model
  }

  function told(id: string): ModelEntry {
    const model = toEntry(find(id))
    emit({ name: 'model changed', data: { model } })
    return model
  }

  async function register(
    path: string,
    facts: Pick<NewModel, 'origin' | 'source' | 'parent' | 'run'> & { name?: string | undefined },
  ): Promise<ModelEntry> {
    const known = history.models.atPath(path)
    if (known) throw new EspalierError('conflict', `${path} is in the library already, as "${known.name}".`, { id: known.id })
    const description = await describe(path)
    const files = await filesOf(path)
    const id = newId('model')
    const name = facts.name ?? basename(path, extname(path) === '.gguf' ? '.gguf' : '')
    history.models.insert({
      ...facts,
      id,
      name,
      path,
      description,
      bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
      createdAt: Date.now(),
    })
    return told(id)
  }

  async function copyIn(from: string, name: string): Promise<ModelEntry> {
    await describe(from)
    const single = (await stat(from)).isFile()
    const models = currentSettings(context).folders.models
    const to = confine(join(models, safeFileName(name) + (single ? extname(from) : '')), [models])
    if (existsSync(to)) throw new EspalierError('conflict', `${to} exists already. Choose another name.`)
    const totalBytes = (await filesOf(from)).reduce((sum, { bytes }) => sum + bytes, 0)
    let doneBytes = 0
    let added: ModelEntry | undefined
    const { over } = transfers.begin({ kind: 'copy', name, totalBytes, request: { from, to } }, async (signal, report) => {
      await copyCheckpoint(from, to, signal, (bytes) => {
        doneBytes += bytes
        report({ doneBytes })
      })
      added = await register(to, { name, origin: 'copied', source: from, parent: null, run: null })
      return added.id
    })
    const { status, problem } = await over
    if (!added) throw new EspalierError(status === 'cancelled' ? 'cancelled' : 'disk', problem ?? 'The copy was cancelled.')
    return added
  }

  function downloadMove({ name, revision }: Record<string, unknown>): Move {
    return async (signal, report) => {
      const hub = await openHub(hubOptions(context))
      const path = await hub.fetchModel(String(name), revision === undefined ? undefined : String(revision), {
        signal,
        report: (progress) =>
          report({
            doneBytes: progress.done,
            totalBytes: progress.total,
            bytesPerSecond: progress.perSecond ?? null,
            secondsLeft: progress.secondsLeft ?? null,
          }),
      })
      const known = history.models.atPath(resolve(path))
      return (
        known ??
        (await register(resolve(path), { name: String(name), origin: 'downloaded', source: String(name), parent: null, run: null }))
      ).id
    }
  }
  transfers.onResume('download', downloadMove)

  function detail(model: StoredModel, files: ModelDetail['files']): ModelDetail {
    const ancestors: ModelDetail['ancestors'] = []
    for (let up = model.parent; up !== null && ancestors.length < 20; ) {
      const parent = history.models.find(up)
      if (!parent) break
      ancestors.push({ id: parent.id, name: parent.name, run: parent.run })
      up = parent.parent
    }
    const descendants = history.models
      .children(model.id)
      .map(({ id, name, run }) => ({ id, name, run, reached: run === null ? null : (history.runs.find(run)?.reached ?? null) }))
    return { ...toEntry(model), files, ancestors, descendants }
  }

  /** Ends the undo window of models that were removed long enough before `now`. */
  async function purge(now: number): Promise<void> {
    for (const model of history.models.removedBefore(now - undoMilliseconds)) {
      if (model.removeFiles && ownedFolders().some((folder) => dirname(model.path) === resolve(folder)))
        await rm(model.path, { recursive: true, force: true })
      history.models.forget(model.id)
    }
  }

  const ownedFolders = () => Object.values(currentSettings(context).folders).filter(Boolean)

  const calls: Service<'models'> & Service<'files'> = {
    async 'models.list'() {
      await bundled
      return history.models.list().map(toEntry)
    },
    async 'models.get'({ id }) {
      const model = find(id)
      return detail(model, await filesOf(model.path))
    },
    'models.check': ({ path }) => describe(resolve(path)),
    'models.add'({ path, mode, name }) {
      const place = resolve(path)
      if (mode === 'copy') return copyIn(place, name ?? basename(place, '.gguf'))
      return register(place, { name, origin: 'linked', source: null, parent: null, run: null })
    },
    'models.update'({ id, ...patch }) {
      history.models.patch(find(id).id, patch)
      return told(id)
    },
    'models.remove'({ id, files }) {
      const model = find(id)
      const busy = history.queue.running().some((run) => run.model === id)
      if (busy) throw new EspalierError('conflict', `"${model.name}" is in use by a run. Cancel it first.`)
      const owned = model.origin !== 'linked' && model.origin !== 'bundled'
      if (files && !owned)
        throw new EspalierError(
          'conflict',
          `The files of "${model.name}" belong to you, not to the library; they stay. Remove the entry only.`,
        )
      const now = Date.now()
      history.models.setRemoved(id, now, files)
      setTimeout(() => void (history.db.open && purge(Date.now())), undoMilliseconds + 100).unref()
      emit({ name: 'model removed', data: { id } })
      return { undoUntil: now + undoMilliseconds }
    },
    'models.restore'({ id }) {
      const model = history.models.find(id)
      if (!model) throw new EspalierError('not-found', `There is no model ${id} to bring back.`)
      if (model.removedAt !== null && history.models.atPath(model.path))
        throw new EspalierError('not-found', `${model.path} was added again under another name.`)
      history.models.setRemoved(id, null, false)
      return told(id)
    },
    'models.download'({ name, revision }) {
      checkRepository(name)
      if (revision !== undefined) checkRevision(revision)
      const request = { name, revision }
      return transfers.begin({ kind: 'download', name, totalBytes: null, request }, downloadMove(request)).transfer
    },
    'files.browse': ({ folder }) => browse(folder),
  }
  /** Puts the model that comes with Espalier into the library, unless it is there or was taken out. Lists wait for it. */
  function registerBundled(path: string): void {
    bundled = addBundled(path)
  }

  async function addBundled(path: string): Promise<void> {
    if (history.models.everAtPath(path)) return
    try {
      await register(path, { name: 'Sample model', origin: 'bundled', source: null, parent: null, run: null })
    } catch (thrown) {
      // Another process that opened the same folder may have been faster, or this one was closed meanwhile.
      if (!history.db.open || history.models.everAtPath(path)) return
      console.error(`The sample model could not be added: ${thrown instanceof Error ? thrown.message : thrown}`)
    }
  }

  return { calls, find, register, registerBundled, purge }
}
