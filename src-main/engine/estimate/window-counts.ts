import { stat } from 'node:fs/promises'
import type { DataRequest } from '#contract/data/data-request.ts'
import { selfWritten } from '#contract/titles.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { isBundledId, locateBundled } from '#engine/data/bundled.ts'
import { isDatasetId } from '#engine/data/named.ts'
import { readData } from '#engine/data/read-data.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'

/** The parts of a model that an estimate depends on. */
export interface WorkModel {
  readonly path: string
  readonly spec: DecoderSpec
  readonly checkpoint: Pick<Checkpoint, 'tensors'>
  readonly tokenizer: Tokenizer | undefined
}

/** Approximate token counts of the named data sets, with a vocabulary of tens of thousands. */
const publishedTokens = { wikitext2: 300_000, 'c4-train': 480_000, 'c4-val': 520_000, 'fineweb-edu': 520_000 }

/** Counting stops at this many tokens. */
const mostTokens = 2 ** 21

/** Window counts of earlier calls, by model, file and window length. */
const counts = new Map<string, number>()

/** The number of windows that a text gives, and the tokens of each window. */
export async function countWindows(
  model: WorkModel,
  { source, mix, sequenceLength, windows = Number.POSITIVE_INFINITY }: DataRequest,
  localFolder: string | undefined,
): Promise<{ windows: number; tokens: number }> {
  let available = 0
  for (const part of mix ?? [{ source }]) available += await windowsOf(model, part.source, sequenceLength, windows, localFolder)
  return { windows: Math.max(1, Math.min(available, windows)), tokens: sequenceLength }
}

async function windowsOf(
  { path: modelPath, spec, tokenizer }: WorkModel,
  source: string,
  sequenceLength: number,
  most: number,
  localFolder: string | undefined,
): Promise<number> {
  if (source === selfWritten) return most
  if (isDatasetId(source) && localFolder === undefined) return Math.ceil(publishedTokens[source] / sequenceLength)
  const path = isBundledId(source) ? locateBundled(source) : source
  const found = await stat(path).catch(() => undefined)
  const cap = Math.min(most, Math.ceil(mostTokens / sequenceLength))
  const key = `${modelPath} ${path} ${found?.size} ${found?.mtimeMs} ${sequenceLength} ${cap} ${localFolder}`
  const known = counts.get(key)
  if (known !== undefined) return known
  const { windows } = await readData({ spec }, tokenizer, { source, sequenceLength, windows: cap }, 0, { localFolder })
  counts.set(key, windows.length)
  for (const old of counts.keys()) if (counts.size > 200) counts.delete(old)
  return windows.length
}
