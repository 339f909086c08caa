import { z } from 'zod'
import { usedData } from '../data/used-data.ts'
import { trainedWeights } from '../pruning/recovery.ts'
import { repairKind } from '../pruning/repair.ts'
import { weightType } from '../runs/run-request.ts'
import { mixedBytes } from '../titles.ts'

/** The size of a pruned model in one format, computed from tensor sizes alone. */
export const formatOutline = z.object({
  format: z.string(),
  /** The weight type of a GGUF file; null for other formats. */
  type: z.string().nullable(),
  /** Bytes on disk, and bytes of keys and values in half precision for 1,000 tokens. Both are null if the format cannot hold the model. */
  bytes: z.number().nullable(),
  keyValueBytes: z.number().nullable(),
  /** Lower bounds, as long as the method has not decided and they differ from the fields above, which are then upper bounds. */
  least: z.object({ bytes: z.number(), keyValueBytes: z.number() }).optional(),
  /** Why the format may turn out not to hold the model, once the method has decided. */
  perhaps: z.string().optional(),
  /** Warnings, for example about parts that are stored as zeros, or a shorter context. */
  notes: z.array(z.string()),
  /** Why the format cannot hold the model. */
  problem: z.string().nullable(),
})

/** The test of a saved file or folder: it is reopened, and its output is compared with that of the model it was saved from. */
const reloadTest = z.object({
  tokens: z.number().int(),
  perplexity: z.number(),
  /** The perplexity of the pruned model before saving. */
  expected: z.number(),
  /** How many of the first greedily generated tokens are equal. */
  equalTokens: z.number().int(),
  greedyTokens: z.number().int(),
})

/** One file or folder written by a save. */
export const savedFile = z.object({
  format: z.string(),
  type: z.string().nullable(),
  path: z.string(),
  bytes: z.number(),
  /** If the run was asked for a size in this format and type: the size of the weight files, and the size that was asked. */
  budget: z.object({ bytes: z.number(), asked: z.number() }).optional(),
  /** Null if Espalier cannot read the format. */
  reload: reloadTest.nullable(),
})

/** A file or folder that was saved from a run, among `together` of its format. It may have been moved or deleted since. */
export const keptFile = savedFile.extend({ isMissing: z.boolean(), together: z.number().int() })

/** The folder of a path of this or another system. */
export const dirname = (path: string): string => path.slice(0, Math.max(0, path.search(/[\\/][^\\/]*$/)))

/** A weight type in the name of a file: `Q8_0`, `MIXED-84MB`. A size keeps all of its digits, so that no two files share a name. */
export function typeInName(type: string): string {
  const bytes = mixedBytes(type)
  return bytes === undefined ? type : `MIXED-${bytes / 1e6}MB`
}

/** Reads the weight type that ends the name of a GGUF file, or of the first of its parts. `stem` is the name without part and ending. */
export function readFileName(name: string): { stem: string; type: string } | null {
  const [, stem, megabytes, type] = /^(.*-MIXED-([\d.]+)MB|.*-([A-Z][A-Z0-9_]*))(?:-\d{5}-of-\d{5})?\.gguf$/.exec(name) ?? []
  if (stem === undefined) return null
  return { stem, type: type ?? `MIXED:${Math.round(Number(megabytes) * 1e6)}` }
}

/** The name of the file beside a GGUF file that Ollama makes a model from. Each of several types has its own. */
export const modelfileName = (type: string, types: number): string => (types > 1 ? `Modelfile-${typeInName(type)}` : 'Modelfile')

/** How many files of this format one save wrote. */
export const countFormat = (saved: readonly SavedFile[], wanted: string): number => saved.filter(({ format }) => format === wanted).length

export type FormatOutline = z.infer<typeof formatOutline>
export type ReloadTest = z.infer<typeof reloadTest>
export type SavedFile = z.infer<typeof savedFile>
export type KeptFile = z.infer<typeof keptFile>

const texts = z.array(usedData.pick({ source: true, windows: true, sequenceLength: true, beginToken: true }))

/** What the model card of a saved model says about its run. `before` is the dense model's value on the same data, if measured. */
export const exportedRun = z.object({
  seed: z.number().int(),
  /** The dense model's name on the hub or in the library. */
  baseModel: z.string(),
  calibration: texts,
  /** Null if the run was not repaired, or not recovered. */
  repair: z.object({ kind: repairKind, texts }).nullable(),
  recovery: z.object({ tokens: z.number().int(), trains: trainedWeights, texts }).nullable(),
  /** The weight type that `measures` are of; null: the weights as computed. */
  weights: weightType.nullable(),
  /** Perplexities, and bits per byte where the bytes of the text are known. */
  measures: z.array(z.object({ name: z.string(), dataset: z.string(), before: z.number().nullable(), after: z.number() })),
})

export type ExportedRun = z.infer<typeof exportedRun>
export type ExportedTexts = z.infer<typeof texts>
