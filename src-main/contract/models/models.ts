import { z } from 'zod'
import { beginFigures, figuresText, lowersClearly, raisesClearly } from '../data/begin-token.ts'
import { errorCodes } from '../errors.ts'
import { readFileName, savedFile } from '../exports/exports.ts'
import { fileBench, speedRange } from '../exports/file-bench.ts'
import { id, moment, name, notes, tags } from '../identifiers.ts'
import { plan } from '../pruning/plan.ts'
import { denseMethod, weightText } from '../titles.ts'

const modelShape = z.object({
  blocks: z.number().int(),
  hidden: z.number().int(),
  intermediate: z.number().int(),
  heads: z.number().int(),
  keyValueHeads: z.number().int(),
  headSize: z.number().int(),
  vocabulary: z.number().int(),
  contextLength: z.number().int(),
})

const stackPart = z.enum(['attention', 'mlp'])

/** One block as stored on disk. A removed submodule has no parameters; a narrowed MLP has a smaller width. */
const blockDescription = z.object({
  attentionParameters: z.number().int(),
  mlpParameters: z.number().int(),
  intermediate: z.number().int(),
  /** Experts of a mixture, constants included. */
  experts: z.number().int().optional(),
  /** Parts that are present but contribute nothing: the format needs zeros where something was removed. */
  zeroed: z.array(stackPart).optional(),
})

/** The sparsities that a method can reach on a model. `steps` is set if only certain values are possible. */
const feasibleRange = z.object({
  method: z.string(),
  minimum: z.number(),
  maximum: z.number(),
  steps: z.array(z.number()).optional(),
})

/**
 * A checkpoint's description, read from its headers and config. `parameters.stack` counts those of the block stack alone, `active` those
 * that one token uses (absent if it uses all).
 */
export const modelDescription = z.object({
  family: z.string(),
  format: z.string(),
  shape: modelShape,
  blocks: z.array(blockDescription),
  parameters: z.object({ total: z.number().int(), stack: z.number().int(), active: z.number().int().optional() }),
  /** The type of most weights. For a quantised file, all of its types, the largest share first. */
  dtype: z.string(),
  /** Whether weights are unpacked when they are read, so that all results refer to the unpacked weights. */
  unpacked: z.boolean().optional(),
  bytes: z.number().int(),
  tokenizer: z.string().nullable(),
  chatTemplate: z.boolean(),
  /**
   * The tokenizer's begin token, and whether the tokenizer puts it before every text. `needed` is set if the family reads no text well
   * without one. Absent if the tokenizer has no such token and the family needs none.
   */
  begins: z.object({ token: z.string().nullable(), added: z.boolean(), needed: z.boolean().optional() }).optional(),
  feasible: z.array(feasibleRange),
  /** The plan stored beside an already pruned checkpoint. */
  plan: plan.nullable(),
})

/** Words the type that a model's weights are stored in, and the type they are computed in if it differs. */
export function numbersOf({ dtype, unpacked }: Pick<ModelDescription, 'dtype' | 'unpacked'>): string {
  return unpacked ? `${dtype}, computed as float32 from unpacked weights` : dtype
}

/** The largest model whose begin token is measured when it is added. Larger ones take minutes on a processor. */
export const mostMeasuredParameters = 2e9

type Beginning = Pick<ModelEntry, 'description' | 'beginFigures'>

/** A sentence on how windows of a model's texts begin if that is left to `auto`, with both perplexities if they were measured. */
export function beginOf({ description: { tokenizer, begins }, beginFigures: figures }: Beginning): string {
  if (tokenizer === null) return 'not known without a tokenizer'
  const token = begins?.token
  if (!token) return 'no begin token'
  if (!figures) return `${begins.added ? `texts begin with ${token}` : `texts begin without ${token}`}, windows not measured yet`
  return `windows begin ${lowersClearly(figures) ? 'with' : 'without'} ${token}: ${figuresText(figures)}`
}

/** What is wrong with how a model reads texts, and what to do about it. */
export function textProblems({ description: { tokenizer, begins, format }, beginFigures: figures }: Beginning): string[] {
  const [place, setting] = format === 'gguf' ? ['beside the file', 'tokenizer.ggml.add_bos_token'] : ['in its folder', 'add_bos_token']
  if (tokenizer === null) return [`This model has no tokenizer, so it cannot read or write text. Place its tokenizer.json ${place}.`]
  if (begins?.needed && begins.token === null)
    return ['Models of this family need a begin token (BOS), but the tokenizer names none. Use the tokenizer that belongs to the model.']
  if (!begins?.token) return []
  const measured = figures ? ` (${figuresText(figures)})` : ''
  const wrong = figures ? lowersClearly(figures) : begins.needed === true
  if (wrong && !begins.added)
    return [
      `This model needs ${begins.token} before every text${measured}, but its tokenizer does not add it, so answers begin wrongly. Set ${setting} to true.`,
    ]
  if (figures && raisesClearly(figures) && begins.added)
    return [
      `The tokenizer adds ${begins.token} before every text, but the model is worse with it${measured}, so answers begin wrongly. Set ${setting} to false.`,
    ]
  return []
}

/** How a model was pruned, and its quality afterwards. */
const prunedBy = z.object({
  method: z.string(),
  reached: z.number().nullable(),
  perplexity: z.object({ dataset: z.string(), value: z.number() }).nullable(),
  /** The weight type that it was measured in; null if it was measured on the weights as computed. */
  weights: z.string().nullable(),
})

/** Whether a run saved its model without removing any part: the dense model, or one whose bytes were worth more as bits. */
export const isKeptWhole = (pruned: ModelEntry['pruned']): boolean =>
  pruned?.method === denseMethod || (pruned?.reached === 0 && pruned.method !== 'vocabulary')

/** How a saved model came from its parent: `pruned from NAME`, or `saved in Q8_0 from NAME` if nothing was removed. */
export function savedFrom({ path, pruned, description }: Pick<ModelEntry, 'path' | 'pruned' | 'description'>, parent: string): string {
  if (!isKeptWhole(pruned)) return `pruned from ${parent}`
  return `saved in ${weightText(readFileName(path)?.type ?? description.dtype)} from ${parent}`
}

/** A checkpoint in the library. `parent` is the model it was pruned from, `run` the run that pruned it. */
export const modelEntry = z.object({
  id,
  name,
  path: z.string(),
  origin: z.enum(['bundled', 'linked', 'copied', 'downloaded', 'exported']),
  source: z.string().nullable(),
  description: modelDescription,
  /**
   * What the model's perplexity is without and with its begin token; null if that was not measured since its files changed. `step` names the
   * step of runs that has this result, and `contents` the one that has the fingerprint of the files, which was computed for it.
   */
  beginFigures: beginFigures
    .extend({
      measuredAt: moment,
      step: z.string().optional(),
      contents: z.object({ step: z.string(), fingerprint: z.string() }).optional(),
    })
    .nullable(),
  present: z.boolean(),
  bytes: z.number().int(),
  parent: id.nullable(),
  run: id.nullable(),
  /** What this run did; null if there is none. */
  pruned: prunedBy.nullable(),
  usedByRuns: z.number().int(),
  notes,
  tags,
  starred: z.boolean(),
  createdAt: moment,
})

export const modelDetail = modelEntry.extend({
  files: z.array(z.object({ name: z.string(), bytes: z.number().int() })),
  ancestors: z.array(z.object({ id, name, run: id.nullable() })),
  descendants: z.array(z.object({ id, name, run: id.nullable(), reached: z.number().nullable() })),
})

/** Returns the library's size on disk, without models that it only links to. */
export function ownedBytes(models: readonly Pick<ModelEntry, 'origin' | 'bytes'>[]): number {
  return models.filter(({ origin }) => origin !== 'linked').reduce((sum, { bytes }) => sum + bytes, 0)
}

type Described = Pick<ModelEntry, 'description'>

/** Finds rivals of a pruned model: smaller unpruned models of its family with the same tokenizer and vocabulary size, largest first. */
export function smallerSiblings(model: Described, library: readonly ModelEntry[]): ModelEntry[] {
  const kindOf = ({ description: { family, tokenizer, shape } }: Described) => JSON.stringify([family, tokenizer, shape.vocabulary])
  const sizeOf = ({ description }: Described) => description.parameters.total
  return library
    .filter((other) => other.present && other.parent === null && other.description.plan === null)
    .filter((other) => kindOf(other) === kindOf(model) && sizeOf(other) < sizeOf(model))
    .sort((a, b) => sizeOf(b) - sizeOf(a))
}

/** A checkpoint that another program stores on this machine. */
export const foundModel = z.object({
  program: z.enum(['Hugging Face cache', 'LM Studio', 'Ollama']),
  name: z.string(),
  path: z.string(),
})

/** Long work with files: a download, a copy, an export of a run, or a measurement in llama.cpp (`bench`). */
export const transfer = z.object({
  id,
  kind: z.enum(['download', 'copy', 'export', 'bench']),
  name: z.string(),
  status: z.enum(['waiting', 'running', 'paused', 'done', 'failed', 'cancelled']),
  doneBytes: z.number(),
  totalBytes: z.number().nullable(),
  bytesPerSecond: z.number().nullable(),
  secondsLeft: z.number().nullable(),
  model: id.nullable(),
  /** The model of the library that is measured. */
  about: id.optional(),
  problem: z.string().nullable(),
  /** The kind of problem, for programs. */
  code: z.enum(errorCodes).optional(),
  /** The exported files, each with the test of reopening it. */
  saved: z.array(savedFile).optional(),
  /** How many exported files have been reopened, once all are written. */
  opened: z.object({ done: z.number().int(), total: z.number().int() }).optional(),
  /** For a measurement in llama.cpp: how many of its turns are done, and its results. */
  turns: z.object({ done: z.number().int(), total: z.number().int() }).optional(),
  bench: fileBench.optional(),
  speeds: speedRange.optional(),
})

export type ModelDescription = z.infer<typeof modelDescription>
export type StackPart = z.infer<typeof stackPart>
export type FeasibleRange = z.infer<typeof feasibleRange>
export type ModelEntry = z.infer<typeof modelEntry>
export type ModelDetail = z.infer<typeof modelDetail>
export type FoundModel = z.infer<typeof foundModel>
export type Transfer = z.infer<typeof transfer>
/** Progress of measuring a begin token: how much of the model was read, and then how many turns are done. */
export type MeasuringProgress = Pick<Transfer, 'doneBytes' | 'totalBytes'> | Required<Pick<Transfer, 'turns'>>

type Related = Pick<ModelEntry, 'id' | 'origin' | 'parent'>

/** Whether a model is the bundled sample or was pruned from it. Only such models are offered the sample's texts: they know no others. */
export function isOfSample(id: string, models: readonly Related[]): boolean {
  const model = models.find((other) => other.id === id)
  if (!model) return false
  return model.origin === 'bundled' || (model.parent !== null && isOfSample(model.parent, models))
}
