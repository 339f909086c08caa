import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { readSmallFile } from '#runtime/small-file.ts'
import { findHubHome } from './hub-cache.ts'

type Environment = Record<string, string | undefined>

/**
 * Finds the token for the hub: in the environment, else in our file, else in the Python library's file. Returns undefined if there is none.
 * Throws if other users can read our file.
 */
export async function findToken(environment: Environment, tokenFile: string | undefined): Promise<string | undefined> {
  const named = clean(environment.HF_TOKEN) ?? clean(environment.HUGGING_FACE_HUB_TOKEN)
  if (named) return named
  const own = tokenFile === undefined ? undefined : await readOwnToken(tokenFile)
  if (own) return own
  const python = environment.HF_TOKEN_PATH || join(findHubHome(environment), 'token')
  return clean(await readSmallFile(python).catch(() => undefined))
}

async function readOwnToken(tokenFile: string): Promise<string | undefined> {
  const found = await stat(tokenFile).catch(() => undefined)
  if (!found) return undefined
  if (process.platform !== 'win32' && (found.mode & 0o077) !== 0) {
    const mode = (found.mode & 0o777).toString(8)
    throw new EspalierError(
      'invalid',
      `The token file ${tokenFile} has mode ${mode}, so other users can read it. Run: chmod 600 ${tokenFile}`,
    )
  }
  return clean(await readSmallFile(tokenFile))
}

/** A header value must be printable ASCII; anything else is not a token. */
function clean(text: string | undefined): string | undefined {
  const trimmed = text?.trim()
  return trimmed && /^[!-~]+$/.test(trimmed) ? trimmed : undefined
}
