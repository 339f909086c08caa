import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { readSmallFile } from '#runtime/small-file.ts'
import { type Connection, requestHops, withAttempts } from './connection.ts'
import { checkPath, isCommit } from './names.ts'

const answer = z.object({ sha: z.string(), siblings: z.array(z.object({ rfilename: z.string() })) })

interface Listing {
  commit: string
  paths: string[]
}

/** Returns the commit of a revision of a model's repository, and the paths of all its files. */
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
    throw new EspalierError('invalid', `The server's answer for ${subject} is not a Hugging Face file listing. Check HF_ENDPOINT.`)
  }
  return { commit: parsed.data.sha, paths: parsed.data.siblings.map((sibling) => sibling.rfilename) }
}

/**
 * Returns the files that Espalier needs: safetensors weights, configuration, tokenizer and licence. Files in subfolders are ignored. Throws
 * `invalid` if there are no such weights, or if a file to download has an unsafe path.
 */
export function neededModelFiles(repository: string, paths: string[]): string[] {
  const weights = chooseWeights(paths)
  if (weights.length === 0) throw noWeightsError(repository, paths)
  const companions = paths.filter((path) => !path.includes('/') && isCompanion(path))
  for (const path of [...weights, ...companions]) checkPath(path, repository)
  return [...companions, ...weights].sort()
}

/**
 * Returns the weights to download: `model.safetensors` if it is listed, otherwise its shards, otherwise every safetensors file at the top
 * level except `consolidated*`. A repository may hold the same weights both in one file and in shards, or under another name.
 */
function chooseWeights(paths: string[]): string[] {
  if (paths.includes('model.safetensors')) return ['model.safetensors']
  const shards = paths.filter((path) => /^model-\d+-of-\d+\.safetensors$/.test(path))
  if (shards.length > 0) return shards
  // A path that starts with `./`, `../` or `/` does not count as in a folder, so that `checkPath` gets to reject it.
  const inFolder = /^(?!\.\.?\/)[^/]+\//
  return paths.filter((path) => path.endsWith('.safetensors') && !inFolder.test(path) && !path.startsWith('consolidated'))
}

function isCompanion(path: string): boolean {
  if (/^(consolidated|training_args|trainer_state|optimizer)/.test(path) || /\.(onnx|msgpack)/.test(path)) return false
  return /\.(json|model|jinja|tiktoken)$/.test(path) || /^(merges|vocab)\.txt$/.test(path) || /^(LICENSE|NOTICE)(\.\w+)?$/i.test(path)
}

function noWeightsError(repository: string, paths: string[]): EspalierError {
  const others = paths.filter((path) => /\.(bin|pth|pt|gguf|h5|msgpack|onnx)$/.test(path)).slice(0, 3)
  const found = others.length > 0 ? `, only ${others.join(', ')}` : ''
  return new EspalierError(
    'invalid',
    `${repository} has no safetensors weights at its top level${found}. Choose a repository that has *.safetensors files there.`,
  )
}

const shardIndex = z.object({ weight_map: z.record(z.string(), z.string()) })

/** Returns the names of the files that a model folder lacks; empty if it is complete. */
export async function missingModelFiles(folder: string): Promise<string[]> {
  const names: string[] = await readdir(folder).catch(() => [])
  const missing = names.includes('config.json') ? [] : ['config.json']
  if (!names.some((name) => /^tokenizer\.(json|model)$|^vocab\.json$/.test(name))) missing.push('tokenizer.json')
  return [...missing, ...(await missingWeights(folder, names))].filter((name) => !existsSync(join(folder, name)))
}

async function missingWeights(folder: string, names: string[]): Promise<string[]> {
  if (names.includes('model.safetensors')) return ['model.safetensors']
  const index = await readSmallFile(join(folder, 'model.safetensors.index.json')).catch(() => undefined)
  if (index === undefined) return names.some((name) => name.endsWith('.safetensors')) ? [] : ['model.safetensors']
  const parsed = shardIndex.safeParse(parseJson(index))
  return parsed.success ? [...new Set(Object.values(parsed.data.weight_map))] : ['model.safetensors.index.json (it is damaged)']
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
