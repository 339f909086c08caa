import type { Dirent } from 'node:fs'
import { copyFile, mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { writeInnerTokenizer } from './inner-tokenizer.ts'

/** Files beside the weights that belong to a model as they are: its tokenizer in every form, its templates. */
const carried =
  /^(tokenizer|special_tokens|added_tokens|vocab|merges|chat_template|generation_config|tekken\.json)|\.(model|tiktoken|jinja)$/
/** Its licence and what goes with it, however spelled. */
const legal = /^(licen[cs]e|notice|copying|terms|acceptable[ _-]?use|use[ _-]?policy|.*[ _-]licen[cs]e\.)/i
const templates = 'additional_chat_templates'

/** Copies what belongs to a model from its folder into another; a model that is one file has its tokenizer inside. */
export async function copyCompanions(from: string, to: string): Promise<void> {
  if (!(await stat(from)).isDirectory()) return writeInnerTokenizer(from, to)
  const entries = await readdir(from, { withFileTypes: true })
  const beside = entries.filter((entry) => !entry.isDirectory() && (carried.test(entry.name) || legal.test(entry.name)))
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
  for (const { name } of entries) await copyFile(await resolveInside(from, name), join(to, name))
}
