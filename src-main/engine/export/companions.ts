import type { Dirent } from 'node:fs'
import { copyFile, mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { toErrorMessage } from '#contract/errors.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { type JsonObject, parseObject } from '#engine/checkpoint/json.ts'
import { exists, readText } from '#engine/checkpoint/regular-file.ts'
import { readGgufTokenizer } from '#engine/tokenizer/gguf-tokenizer.ts'
import { readTokenizerFiles, type TokenizerFiles } from '#engine/tokenizer/tokenizer-files.ts'
import { renumbered, renumberIds, renumberSettings, trimTokenizer } from '#engine/tokenizer/trim-tokenizer.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { type PackedBlock, sourceOf } from './pruned-tensors.ts'

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
 * inside it. `kept` lists the tokens that stay, if rows of the vocabulary were removed.
 */
export async function copyCompanions(from: string, to: string, kept?: readonly number[]): Promise<void> {
  if (!(await stat(from)).isDirectory()) return writeInnerTokenizer(from, to, kept)
  const entries = await readdir(from, { withFileTypes: true })
  const beside = entries.filter(
    (entry) =>
      !entry.isDirectory() &&
      (carried.test(entry.name) || legal.test(entry.name)) &&
      !code.test(entry.name) &&
      !(kept && (wholeVocabulary.test(entry.name) || Object.hasOwn(trimmedFiles, entry.name))),
  )
  await copyFiles(from, to, beside)
  if (kept) await trimFiles(from, to, kept)
  if (!entries.some((entry) => entry.isDirectory() && entry.name === templates)) return
  const inside = await readdir(join(from, templates), { withFileTypes: true })
  await mkdir(join(to, templates))
  await copyFiles(
    join(from, templates),
    join(to, templates),
    inside.filter((entry) => !entry.isDirectory()),
  )
}

/** Other forms of the tokenizer, which hold the whole vocabulary. A trimmed model has tokenizer.json only. */
const wholeVocabulary = /^(vocab|merges|added_tokens|tekken)\b|\.(model|tiktoken)$/

/** Files in which tokens have their ids, and what they become without some of the tokens. */
const trimmedFiles: Readonly<Record<string, (content: JsonObject, kept: readonly number[], files: TokenizerFiles) => JsonObject>> = {
  'tokenizer.json': (_, kept, files) => trimTokenizer(files, kept).tokenizer,
  'tokenizer_config.json': (settings, kept) => renumberSettings(settings, renumbered(kept)),
  'generation_config.json': (generation, kept) => renumberIds(generation, renumbered(kept)),
}

async function trimFiles(from: string, to: string, kept: readonly number[]): Promise<void> {
  const files = await readTokenizerFiles(from)
  for (const [name, trim] of Object.entries(trimmedFiles)) {
    const file = await resolveInside(from, name)
    if (!(await exists(file))) continue
    const text = config.test(name) ? textWithoutCode(await readText(file), file) : await readText(file)
    await writeFile(join(to, name), `${JSON.stringify(trim(parseObject(text, file), kept, files))}\n`)
  }
}

async function copyFiles(from: string, to: string, entries: readonly Dirent[]): Promise<void> {
  for (const { name } of entries) {
    const file = await resolveInside(from, name)
    if (config.test(name)) await writeFile(join(to, name), textWithoutCode(await readText(file), file))
    else await copyFile(file, join(to, name))
  }
}

/**
 * Writes the tokenizer inside a GGUF file as separate files, as a model folder has them. Writes nothing if the file has no readable
 * tokenizer.
 */
async function writeInnerTokenizer(model: string, folder: string, kept: readonly number[] | undefined): Promise<void> {
  const files = await readGgufTokenizer(model).catch((thrown: unknown) => {
    // A model without a tokenizer is written without one.
    if (toErrorMessage(thrown).code !== 'not-found') throw thrown
  })
  if (!files || files.where !== model) return
  for (const [name, content] of Object.entries(filesOf(kept ? trimTokenizer(files, kept) : files)))
    await writeFile(join(folder, name), `${JSON.stringify(content)}\n`)
}

/** Files in the form that the tokenizers and transformers libraries read, with all fields that they require. */
function filesOf({ tokenizer, settings, chatTemplate, beginToken, endToken, beginId, endIds }: TokenizerFiles): Record<string, unknown> {
  const { model, pre_tokenizer: steps, ...rest } = tokenizer as Record<string, Record<string, unknown>>
  const pieces = steps?.pretokenizers as Record<string, unknown>[] | undefined
  const complete = pieces?.map((piece) => (piece.type === 'ByteLevel' ? { trim_offsets: true, ...piece } : piece))
  const byteLevel = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true }
  const bare = { dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false }
  return {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      post_processor: null,
      ...rest,
      pre_tokenizer: complete ? { ...steps, pretokenizers: complete } : null,
      ...(complete ? { decoder: byteLevel } : {}),
      model: { ...bare, byte_fallback: false, ...model },
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      clean_up_tokenization_spaces: false,
      ...settings,
      ...(beginToken === undefined ? {} : { bos_token: beginToken }),
      ...(endToken === undefined ? {} : { eos_token: endToken }),
      ...(chatTemplate === undefined ? {} : { chat_template: chatTemplate }),
    },
    'generation_config.json': {
      ...(beginId === undefined ? {} : { bos_token_id: beginId }),
      ...(endIds.length > 0 ? { eos_token_id: endIds } : {}),
    },
  }
}

/** Config entries that make a loader download or run foreign code. */
const codeWords = /^(auto_map|custom_pipelines|custom_generate|trust_remote_code|hub_kernel_config|_?(attn|experts)_implementation\w*)$/

/** Removes the entries that make a loader run code from the source's config, at every depth. A format adds its own module afterwards. */
export function withoutCode<Value>(value: Value): Value {
  if (Array.isArray(value)) return value.map(withoutCode) as Value
  if (typeof value !== 'object' || value === null) return value
  const kept = Object.entries(value).filter(([word]) => !codeWords.test(word))
  return Object.fromEntries(kept.map(([word, inner]) => [word, withoutCode(inner)])) as Value
}

/** Removes these entries from the text of a config file. Returns it unchanged if it has none. Throws `invalid` if the text is not JSON. */
export function textWithoutCode(text: string, file: string): string {
  const config = parseObject(text, file)
  const clean = withoutCode(config)
  return JSON.stringify(clean) === JSON.stringify(config) ? text : `${JSON.stringify(clean, null, 2)}\n`
}

/**
 * A config for the written blocks, without entries that run the source's code. If blocks were removed, lists with an entry per block are
 * written out, and the index of the first block with a window is adjusted.
 */
export function packedConfig(spec: DecoderSpec, config: Record<string, unknown>, packed: readonly PackedBlock[]): Record<string, unknown> {
  // The format vllm-experts lists the constants of the written model itself.
  const { approximate_experts: _, ...rest } = config
  const firstWindow = rest.max_window_layers
  const moved = packed.length < spec.blocks.length || packed.some((block, position) => sourceOf(block) !== position)
  const lists = Object.entries(spec.perBlock ?? {}).filter(([key]) => moved || config[key] !== undefined)
  return {
    ...withoutCode(rest),
    ...Object.fromEntries(lists.map(([key, list]) => [key, packed.map((block) => list[sourceOf(block)])])),
    ...(typeof firstWindow === 'number' ? { max_window_layers: packed.filter((block) => sourceOf(block) < firstWindow).length } : {}),
  }
}
