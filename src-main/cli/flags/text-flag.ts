import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { DataRequest } from '#contract/data/data-request.ts'
import { EspalierError } from '#contract/errors.ts'
import { isTextName } from '#contract/titles.ts'

/**
 * Parses the text of a flag: a path, a named text, or several of them with shares (`a.txt:0.5,b.txt:0.25,mixed:0.25`). Throws `usage` for a
 * missing file or share.
 */
export function textFlag(flag: string, text: string): Pick<DataRequest, 'source' | 'mix'> {
  const entries = text.split(',').map((entry) => /^(.+):(\d+(?:\.\d+)?)$/.exec(entry.trim()))
  if (existsSync(text) || entries.length < 2) return { source: existing(flag, text) }
  const mix = entries.map((entry, index) => {
    const [, source = '', share = ''] = entry ?? []
    if (Number(share) > 0) return { source: existing(flag, source), share: Number(share) }
    throw new EspalierError(
      'usage',
      `--${flag} is "${text}", but part ${index + 1} has no share above 0. Write every part as PATH:SHARE, such as a.txt:0.5,b.txt:0.5.`,
    )
  })
  return { source: text, mix }
}

/** Returns a named text unchanged, and a file or folder as an absolute path. Throws `usage` if there is no such path. */
export function existing(flag: string, path: string): string {
  if (isTextName(path)) return path
  if (!existsSync(path)) throw new EspalierError('usage', `--${flag} is "${path}", but there is no such file or folder.`)
  return resolve(path)
}
