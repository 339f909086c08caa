import { readdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { basename, extname, join, resolve } from 'node:path'
import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import type { FoundModel } from '#contract/models/models.ts'
import { findCacheFolder } from '#hub/hub-cache.ts'
import { checkRepository, checkRevision } from '#hub/names.ts'
import { readSmallJson } from '#runtime/small-file.ts'
import { checkNotes } from '../check-notes.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'
import { browse, checkpointAt } from './library-files.ts'

/** Calls about models and about the folders to choose them from. The library does the work. */
export class ModelsService extends Service {
  readonly calls: Calls<'models'> & Calls<'files'> = {
    'models.list': () => this.parts.library.list(),
    'models.get': ({ id }) => this.parts.library.detail(id),
    'models.check': ({ path }, signal) => this.parts.library.describe(checkpointAt(resolve(path)), signal),
    'models.add': ({ path, mode, name }) => {
      const place = checkpointAt(resolve(path))
      if (mode === 'copy') return this.parts.library.copyIn(place, name ?? basename(place, '.gguf'))
      return this.parts.library.register(place, { name, origin: 'linked', source: null, parent: null, run: null })
    },
    'models.measureBegin': ({ id }) => this.parts.library.measureBegin(id),
    'models.found': () => findModels(),
    'models.update': ({ id, notesBefore, ...patch }) => {
      const { name, path } = this.parts.library.find(id)
      if (patch.name !== undefined && patch.name !== name && this.history.models.namesBeside(path).includes(patch.name))
        throw new EspalierError('conflict', `Another model in the library or the history is called "${patch.name}". Choose another name.`)
      this.history.transaction(() => {
        checkNotes(this.parts.library.find(id), { ...patch, notesBefore })
        this.history.models.patch(id, patch)
      })
      return this.parts.library.tell(id)
    },
    'models.remove': ({ id, files }) => this.parts.library.remove(id, files),
    'models.restore': ({ id }) => this.parts.library.restore(id),
    'models.download': ({ name, revision }) => {
      checkRepository(name)
      if (revision !== undefined) checkRevision(revision)
      return this.parts.library.download(name, revision)
    },
    'files.browse': ({ folder }) => browse(folder),
  }
}

type Environment = Record<string, string | undefined>

const most = 500
const largestManifest = 1_000_000

/** Lists checkpoints that other programs store on this machine, by program and name, without opening them. */
export async function findModels(environment: Environment = process.env, home: string = homedir()): Promise<FoundModel[]> {
  const found = await Promise.all([
    inHubCache(findCacheFolder(environment)),
    inLmStudio(join(home, '.lmstudio', 'models')),
    inLmStudio(join(home, '.cache', 'lm-studio', 'models')),
    inOllama(environment.OLLAMA_MODELS ?? join(home, '.ollama', 'models')),
  ])
  return found.flat().slice(0, most)
}

/** Lists folders `models--owner--name/snapshots/<commit>` with a config.json and safetensors, and gguf files in them. */
async function inHubCache(folder: string): Promise<FoundModel[]> {
  const repositories = (await namesIn(folder)).filter((name) => name.startsWith('models--'))
  const found = await Promise.all(
    repositories.map(async (repository) => {
      const snapshots = join(folder, repository, 'snapshots')
      const name = repository.slice('models--'.length).replaceAll('--', '/')
      const commits = await namesIn(snapshots)
      return (await Promise.all(commits.map((commit) => inSnapshot(name, join(snapshots, commit))))).flat()
    }),
  )
  return found.flat()
}

async function inSnapshot(name: string, folder: string): Promise<FoundModel[]> {
  const files = await namesIn(folder)
  const whole = files.includes('config.json') && files.some((file) => file.endsWith('.safetensors'))
  const ggufs = files.filter((file) => file.endsWith('.gguf'))
  return [
    ...(whole ? [{ program: 'Hugging Face cache' as const, name, path: folder }] : []),
    ...ggufs.map((file) => ({ program: 'Hugging Face cache' as const, name: `${name}, ${file}`, path: join(folder, file) })),
  ]
}

/** Lists files `publisher/model/file.gguf`. Of a split file, only the first part is listed. */
async function inLmStudio(folder: string): Promise<FoundModel[]> {
  const found: FoundModel[] = []
  for (const publisher of await namesIn(folder)) {
    for (const model of await namesIn(join(folder, publisher))) {
      for (const file of await namesIn(join(folder, publisher, model))) {
        if (extname(file) !== '.gguf' || /^mmproj|-0000[2-9]-of-|-000[1-9]\d-of-/.test(file)) continue
        found.push({ program: 'LM Studio', name: `${publisher}/${basename(file, '.gguf')}`, path: join(folder, publisher, model, file) })
      }
    }
  }
  return found
}

const manifest = z.object({ layers: z.array(z.object({ mediaType: z.string(), digest: z.string().regex(/^sha256:[0-9a-f]{64}$/) })) })

/** Reads the manifests `host/owner/name/tag`. Each refers to the blob that is the gguf file. */
async function inOllama(folder: string): Promise<FoundModel[]> {
  const found: FoundModel[] = []
  const manifests = join(folder, 'manifests')
  for (const host of await namesIn(manifests)) {
    for (const owner of await namesIn(join(manifests, host))) {
      for (const model of await namesIn(join(manifests, host, owner))) {
        for (const tag of await namesIn(join(manifests, host, owner, model))) {
          const digest = await modelDigest(join(manifests, host, owner, model, tag))
          if (!digest) continue
          const name = `${owner === 'library' ? '' : `${owner}/`}${model}:${tag}`
          found.push({ program: 'Ollama', name, path: join(folder, 'blobs', digest.replace(':', '-')) })
        }
      }
    }
  }
  return found
}

async function modelDigest(file: string): Promise<string | undefined> {
  const found = await readSmallJson(manifest, file, largestManifest)
  return found?.layers.find(({ mediaType }) => mediaType === 'application/vnd.ollama.image.model')?.digest
}

/** Visible names in a folder; empty if it does not exist. */
async function namesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [])
  return names
    .filter((name) => !name.startsWith('.'))
    .sort()
    .slice(0, most)
}
