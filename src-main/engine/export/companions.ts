import type { Dirent } from 'node:fs'
import { copyFile, mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readText } from '#engine/checkpoint/regular-file.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { writeInnerTokenizer } from './inner-tokenizer.ts'
import { textWithoutCode } from './without-code.ts'

/** Files beside the weights that are copied with a model: its tokenizer in every form, and its templates. */
const carried =
  /^(tokenizer|special_tokens|added_tokens|vocab|merges|chat_template|generation_config|tekken\.json)|\.(model|tiktoken|jinja)$/
/** Licence files and related ones, in any spelling. */
const legal = /^(licen[cs]e|notice|copying|terms|acceptable[ _-]?use|use[ _-]?policy|.*[ _-]licen[cs]e\.)/i
/** Endings of files that are never copied, because a loader that trusts the folder would run code in them. */
const code = /\.(py|pyc|so|dll|dylib|pkl|pickle|pt|bin)$/i
/** Files in which an entry may name code to load. */
const config = /_(config|map)\.json$/
const templates = 'additional_chat_templates'

/**
 * Copies the files that belong to a model from its folder into another, without code. If the model is a single file, writes the tokenizer
 * inside it.
 */
export async function copyCompanions(from: string, to: string): Promise<void> {
  if (!(await stat(from)).isDirectory()) return writeInnerTokenizer(from, to)
  const entries = await readdir(from, { withFileTypes: true })
  const beside = entries.filter(
    (entry) => !entry.isDirectory() && (carried.test(entry.name) || legal.test(entry.name)) && !code.test(entry.name),
  )
  await copyFiles(from, to, beside)
  if (!entries.some((entry) => entry.isDirectory() && entry.name === templates)) return
  const inside = await readdir(join(from, templates), { withFileTypes: true })
  await mkdir(join(to, templates))
  await copyFiles(
    join(from, templates),
    join(to, templates),
    inside.filter((entry) => !entry.isDirectory()),
  )
}

async function copyFiles(from: string, to: string, entries: readonly Dirent[]): Promise<void> {
  for (const { name } of entries) {
    const file = await resolveInside(from, name)
    if (config.test(name)) await writeFile(join(to, name), textWithoutCode(await readText(file), file))
    else await copyFile(file, join(to, name))
  }
}
