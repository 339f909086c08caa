import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { type Connection, requestHops, withAttempts } from './connection.ts'
import { checkPath, isCommit } from './names.ts'

const answer = z.object({ sha: z.string(), siblings: z.array(z.object({ rfilename: z.string() })) })

interface Listing {
  commit: string
  paths: string[]
}

/** The files in a model's repository at a revision. */
export async function listModel(connection: Connection, repository: string, revision: string, signal: AbortSignal): Promise<Listing> {
  const url = `${connection.endpoint}/api/models/${repository}/revision/${encodeURIComponent(revision)}`
  const subject = `${repository} (revision ${revision})`
  const body = await withAttempts(connection, signal, async () => {
    const hops = await requestHops(connection, url, { signal, subject })
    return hops
      .at(-1)
      ?.json()
      .catch(() => undefined)
  })
  const parsed = answer.safeParse(body)
  if (!parsed.success || !isCommit(parsed.data.sha)) {
    throw new EspalierError('invalid', `The server does not list ${subject} as the hub does. Check HF_ENDPOINT.`)
  }
  return { commit: parsed.data.sha, paths: parsed.data.siblings.map((sibling) => sibling.rfilename) }
}

/** Returns the listed files that Espalier needs: weights in safetensors, configuration, tokenizer and licence, but none in subfolders. */
export function neededModelFiles(repository: string, paths: string[]): string[] {
  const weights = chooseWeights(paths)
  if (weights.length === 0) throw noWeights(repository, paths)
  const needed = paths.filter((path) => !path.includes('/') && isCompanion(path))
  for (const path of [...weights, ...needed]) checkPath(path, repository)
  return [...needed, ...weights].sort()
}

/** Chooses one set of weights, because repositories may hold them twice: whole and sharded, or under another name. */
function chooseWeights(paths: string[]): string[] {
  if (paths.includes('model.safetensors')) return ['model.safetensors']
  const shards = paths.filter((path) => /^model-\d+-of-\d+\.safetensors$/.test(path))
  if (shards.length > 0) return shards
  const inFolder = /^(?!\.\.?\/)[^/]+\//
  return paths.filter((path) => path.endsWith('.safetensors') && !inFolder.test(path) && !path.startsWith('consolidated'))
}

function isCompanion(path: string): boolean {
  if (/^(consolidated|training_args|trainer_state|optimizer)/.test(path) || /\.(onnx|msgpack)/.test(path)) return false
  return /\.(json|model|jinja|tiktoken)$/.test(path) || /^(merges|vocab)\.txt$/.test(path) || /^(LICENSE|NOTICE)(\.\w+)?$/i.test(path)
}

function noWeights(repository: string, paths: string[]): EspalierError {
  const others = paths.filter((path) => /\.(bin|pth|pt|gguf|h5|msgpack|onnx)$/.test(path)).slice(0, 3)
  const found = others.length > 0 ? `only ${others.join(', ')}` : 'no weights'
  return new EspalierError(
    'invalid',
    `${repository} has ${found}, but Espalier needs safetensors. Choose a repository with *.safetensors files.`,
  )
}
