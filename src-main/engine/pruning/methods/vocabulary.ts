import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import type { VocabularyPlan } from '#contract/pruning/plan.ts'
import { languages } from '#contract/pruning/token-ranking.ts'
import type { KeptRows } from '#contract/runs/run-request.ts'
import { setsRows } from '#contract/titles.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { readDeclarations } from '#engine/data/bundled.ts'
import { type CountedText, countingTokens } from '#engine/data/count-tokens.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { Model } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import { regularPause } from '#engine/model/walk.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { describeRanking } from '#engine/tokenizer/describe-ranking.ts'
import { chooseTokens, type KeptRequest, scriptPattern } from '#engine/tokenizer/kept-tokens.ts'
import { TrimmedTokenizer } from '#engine/tokenizer/reread-windows.ts'
import { openTokenizerFiles, type Tokenizer, tokenizerOf, withoutTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { idsNamedBy } from '#engine/tokenizer/trim-tokenizer.ts'
import type { Budget } from '../budget.ts'
import { defineMethod, type MethodRun } from '../method.ts'
import { densePlan, reachedSparsity } from '../plan.ts'

/**
 * Removes rows of the embedding and the head: those of tokens that a text does not use. The tokens that stay are closed under the merges
 * that build them, so text that they cover keeps its ids and hidden states, and no token of it becomes less likely. Other text becomes more
 * tokens. The amount is a share of all parameters, unless an option gives the number of rows. Builds on lm-vocab-trimmer (2305.15020).
 */
const options = z.object({
  windows: z.number().int().positive().optional().meta({
    title: 'Windows',
    empty: 'all of the text',
    help: 'Counts the tokens of only this many windows of the text. More text ranks rows better.',
  }),
  rows: z
    .number()
    .int()
    .positive()
    .optional()
    .meta({ title: 'Rows', unit: 'tokens', empty: 'by amount', help: 'Keeps this many rows, whatever the amount says.' }),
  share: z
    .number()
    .positive()
    .max(1)
    .optional()
    .meta({ title: 'Share of rows', empty: 'by amount', help: 'Keeps this share of the rows, whatever the amount says.' }),
  coverage: z
    .number()
    .positive()
    .max(1)
    .optional()
    .meta({ title: 'Coverage', empty: 'by amount', help: 'Keeps the rows that cover this share of the text, such as 0.999.' }),
  prior: z.number().nonnegative().default(800_000).meta({
    title: 'Prior',
    unit: 'tokens',
    help: 'Ranks rows as if the text had this many more tokens, spread by the order of merges. 0 counts only the text.',
  }),
  languages: z
    .array(z.enum(languages))
    .default([])
    .meta({ title: 'Languages', help: 'Keeps the tokens of a declaration of human rights in these languages too.' }),
  scripts: z.string().default('').meta({
    title: 'Scripts',
    help: 'Keeps every single character of these scripts too, such as "Han, Hangul". Characters below U+3000 always stay.',
  }),
})

type Options = z.infer<typeof options>

const comparingRows = 'Comparing numbers of rows'
const readingAgain = 'Reading the text again'

export const vocabulary = defineMethod({
  id: 'vocabulary',
  order: 12,
  title: 'Vocabulary',
  paper: '2305.15020',
  own: true,
  summary: 'Removes rows of embedding and head that a text does not use. Exact on text that the remaining tokens cover.',
  unit: 'vocabulary',
  options,
  refitProblem: () => 'it changes no weights of the blocks',
  windows: ({ windows = Number.MAX_SAFE_INTEGER }) => windows,
  readsAll: ({ windows }) => windows === undefined,
  range: (spec) => ({ least: 0, most: reachedWith(spec, 1) }),
  outline(spec, budget, chosen) {
    const rows = rowsFor(spec, budget, chosen)
    return {
      attentionRemoved: 0,
      blocksRemoved: 0,
      neuronsRemovedPerBlock: 0,
      reached: rows === undefined ? null : reachedWith(spec, rows),
    }
  },
  work(spec, budget, chosen, windows) {
    if (rowsFor(spec, budget, chosen) === spec.vocabulary) return []
    const passes = { attention: 0, mlp: 0, head: 0 }
    return [{ phase: readingAgain, passes, float64Operations: (tokens) => tokens * Math.max(1, windows) }]
  },
  boundingPlans(spec, budget, chosen) {
    const rows = rowsFor(spec, budget, chosen)
    return (rows === undefined ? [spec.vocabulary, 1] : [rows]).map((count) => withRows(spec, count))
  },
  async plan({ view, calibration, counted, budget, options: chosen, run }) {
    const { spec, model } = view
    const rows = rowsFor(spec, budget, chosen)
    if (rows === spec.vocabulary) return { plan: densePlan(spec), decisions: [], notes: [] }
    const files = await openTokenizerFiles(model.path).catch((thrown: unknown) => {
      if (thrown instanceof EspalierError && thrown.code === 'not-found')
        throw new EspalierError('infeasible', withoutTokenizer('lose rows of its vocabulary'))
      throw thrown
    })
    const tokenizer = tokenizerOf(files)
    const scripts = scriptsOf(chosen)
    const target = rows === undefined ? { coverage: chosen.coverage ?? 1 } : { rows }
    const declarations = await readDeclarations()
    const texts = chosen.languages.flatMap((language) => declarations.get(language) ?? [])
    const asked: KeptRequest = { target, prior: chosen.prior, scripts, texts }
    const text = counted ?? countWindows(calibration, tokenizer, spec.vocabulary, run)
    const content = counted ? counted.hash : calibration
    const on = { windows: content, ...asked }
    const { kept, always, covered, ranking } = await run.step({ kind: rankStep, label: 'kept rows', on }, async () => {
      const { counts } = text
      const sizes = { rows: spec.vocabulary, named: idsNamedBy(model.checkpoint.config) }
      const found = await chooseTokens(files, tokenizer, counts, asked, sizes, regularPause(run.signal))
      const shown = [
        { name: 'ranking text', counts, sample: firstOf(text.beginning) },
        ...[...declarations].map(([name, text]) => ({ name, counts: countOf(tokenizer, text, spec.vocabulary), sample: firstOf(text) })),
      ]
      const how = { order: found.order, least: found.always, chosen: found.kept.length, bytesOf: (rows: number) => bytesWith(model, rows) }
      const progress = (done: number, total: number) => {
        run.signal.throwIfAborted()
        run.progress(comparingRows, done, total, 'numbers')
      }
      const { order: _, ...result } = found
      return { ...result, ranking: await describeRanking(files, how, shown, progress) }
    })
    const plan = { ...densePlan(spec), vocabulary: { kept } }
    const proof = await run.step({ kind: proofStep, label: 'equal ids', on: { windows: content, kept } }, () =>
      compareIds(tokenizer, new TrimmedTokenizer(tokenizer, files, kept), text, run),
    )
    const proven = text.sampled < 1 ? `a sample of ${percent(text.sampled)} of the text (drawn with seed 0)` : 'the text'
    const notes = [
      `Kept ${grouped(kept.length)} of ${grouped(spec.vocabulary)} rows, ${grouped(always)} of them in any case.`,
      `They cover ${percent(covered)} of the text's ${grouped(text.tokens)} tokens. Read again with the trimmed tokenizer, ${grouped(proof.equal)} of ${grouped(proof.bytes)} bytes of ${proven} (${percent(proof.bytes === 0 ? 1 : proof.equal / proof.bytes)}) have equal ids.`,
      'Perplexity depends on the vocabulary: compare bits per byte.',
    ]
    return { plan, decisions: [], notes, ranking, ...(setsRows('vocabulary', chosen) ? { nominal: reachedSparsity(spec, plan) } : {}) }
  },
})

const rankStep: StepKind = { version: 2 }
const proofStep: StepKind = { version: 1 }

const sampleLength = 90

/** The beginning of a text, without a character that was cut. */
const firstOf = (text: string): string =>
  text
    .trim()
    .replaceAll(/\s+/g, ' ')
    .slice(0, sampleLength)
    .replace(/[\ud800-\udbff]$/, '')

function countOf(tokenizer: Tokenizer, text: string, size: number): Float64Array {
  const counts = new Float64Array(size)
  for (const id of tokenizer.encode(text)) counts[id] = (counts[id] ?? 0) + 1
  return counts
}

/** The bytes of the model with this many rows, in the types of its checkpoint. */
function bytesWith({ checkpoint, spec }: Model, rows: number): number {
  const all = [...checkpoint.tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  const ofRows = [...new Set([spec.embedding, spec.head.weight])].reduce((sum, name) => sum + (checkpoint.tensors.get(name)?.bytes ?? 0), 0)
  return Math.round(all - ofRows * (1 - rows / spec.vocabulary))
}

function scriptsOf({ scripts }: Options): string[] {
  const names = scripts.split(',').flatMap((name) => name.trim() || [])
  for (const name of names) scriptPattern(name)
  return names
}

/** The number of rows that stay; undefined if the text decides. Options come before the amount. */
function rowsFor(spec: DecoderSpec, { sparsity }: Budget, { rows, share, coverage }: Options): number | undefined {
  const given = [rows, share, coverage].filter((value) => value !== undefined)
  if (given.length > 1)
    throw new EspalierError('usage', 'The options rows, share and coverage all say how many rows stay. Give one of them.')
  if (coverage !== undefined) return undefined
  if (rows !== undefined) return rowsOf(spec, { rows })
  if (share !== undefined) return rowsOf(spec, { share })
  const each = (Vocabulary.parameters(spec) - Vocabulary.parameters(specWithPlan(spec, withRows(spec, 1)))) / (spec.vocabulary - 1)
  const all = stackParameters(spec) + Vocabulary.parameters(spec)
  return Math.max(1, spec.vocabulary - Math.ceil((sparsity * all) / each - 1e-9))
}

/** How many rows a number or a share of them is. Throws if the model has fewer. */
export function rowsOf({ vocabulary }: DecoderSpec, kept: KeptRows): number {
  if ('share' in kept) return Math.max(1, Math.round(kept.share * vocabulary))
  if (kept.rows <= vocabulary) return kept.rows
  throw new EspalierError('infeasible', `${grouped(kept.rows)} rows cannot be kept: the model has ${grouped(vocabulary)}.`)
}

/** The first rows, as many as stay; undefined if all do. What is planned for them has about the size of what is planned for others. */
export const likelyRows = (spec: DecoderSpec, kept: KeptRows | undefined): VocabularyPlan | undefined =>
  kept && { kept: Array.from({ length: rowsOf(spec, kept) }, (_, row) => row) }

/** A plan that keeps this many rows, whichever they are. */
const withRows = (spec: DecoderSpec, rows: number) =>
  rows === spec.vocabulary ? densePlan(spec) : { ...densePlan(spec), vocabulary: { kept: Array.from({ length: rows }, (_, row) => row) } }

const reachedWith = (spec: DecoderSpec, rows: number): number => reachedSparsity(spec, withRows(spec, rows))

/** The counts of a text of which only some windows are read. */
function countWindows(windows: Windows, tokenizer: Tokenizer, size: number, { progress, signal }: MethodRun): Omit<CountedText, 'hash'> {
  const counts = new Float64Array(size)
  for (const [index, window] of windows.entries()) {
    signal.throwIfAborted()
    for (const id of window) counts[id] = (counts[id] ?? 0) + 1
    progress(countingTokens, index + 1, windows.length, 'windows')
  }
  const textOf = (window: Int32Array) => tokenizer.decode([...window], { cleanUp: false })
  return {
    counts,
    tokens: windows.reduce((sum, { length }) => sum + length, 0),
    beginning: textOf(windows[0] ?? new Int32Array()),
    sampled: 1,
    async *passages() {
      for (const window of windows) yield textOf(window)
    },
  }
}

/**
 * Encodes the passages of a text with both tokenizers, and counts their bytes in tokens that are the same in both. Throws if text that the
 * kept tokens cover is read differently, because then the closure of the merges failed.
 */
async function compareIds(
  whole: Tokenizer,
  trimmed: TrimmedTokenizer,
  text: Pick<CountedText, 'passages' | 'counts' | 'sampled'>,
  { progress, signal }: MethodRun,
): Promise<{ equal: number; bytes: number }> {
  const isKept = new Set(trimmed.kept)
  let [equal, bytes] = [0, 0]
  const pauseIfDue = regularPause(signal)
  const total = Math.round(text.sampled * text.counts.reduce((sum, count, id) => sum + (count > 0 ? count * whole.bytesOf(id) : 0), 0))
  for await (const passage of text.passages()) {
    const own = whole.encode(passage)
    const others = trimmed.tokenizer.encode(passage).map((id) => trimmed.kept[id] ?? -1)
    const found = equalBytes(own, others, whole.bytesOf)
    if (found.equal < found.bytes && own.every((id) => isKept.has(id)))
      throw new EspalierError('internal', 'Text that the kept tokens cover was read differently without the others.')
    equal += found.equal
    bytes += found.bytes
    if (await pauseIfDue()) progress(readingAgain, bytes, Math.max(bytes, total), 'bytes')
  }
  return { equal, bytes }
}

/** The bytes of tokens that stand at the same place in two readings of a text, and all bytes. */
export function equalBytes(
  own: readonly number[],
  others: readonly number[],
  bytesOf: (id: number) => number,
): { equal: number; bytes: number } {
  let [equal, place, otherPlace, next] = [0, 0, 0, 0]
  for (const id of own) {
    const size = bytesOf(id)
    if (size === 0) continue
    while (next < others.length && (otherPlace < place || bytesOf(others[next] as number) === 0))
      otherPlace += bytesOf(others[next++] as number)
    if (otherPlace === place && others[next] === id) equal += size
    place += size
  }
  return { equal, bytes: place }
}

const grouped = (value: number): string => value.toLocaleString('en')
const percent = (share: number): string => `${Number((100 * share).toFixed(2))} %`
