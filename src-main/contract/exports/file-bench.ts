import { z } from 'zod'
import { beginChoice, usedBegin } from '../data/begin-token.ts'
import { dataRequest } from '../data/data-request.ts'
import { readPlace } from '../places.ts'
import { speedBudget, weightType } from '../runs/run-request.ts'

/** How many files are measured together. */
export const mostFiles = 20

/** Default prompt lengths. Lengths that exceed the context are left out. */
export const usualPrompts = [512, 2048, 8192] as const
/** Returns prompt lengths for a measurement: the default ones below `tokens`, and `tokens`. */
export const promptsUpTo = (tokens: number): number[] => [...usualPrompts.filter((usual) => usual < tokens), tokens]
/** Default number of turns for each file. */
export const usualRounds = 3
/** The weight type of the unpruned file that runs time their file against. */
export const rivalType = 'F16'
/** Length in tokens of the prompt before the tokens whose speed is asked for. */
export const speedPrompt = 128
/** Number of tokens generated in each turn. */
export const writtenTokens = 32
/** A turn is repeated for at least this long, because single passes of a small model are too short for a steady time. */
export const shortestTurnSeconds = 0.25

/** The median of all rounds, with the lowest and the highest value. */
const figure = z.object({ value: z.number(), low: z.number(), high: z.number() })

/** What one file costs to run. Speeds are in tokens per second. */
const benchedFile = z.object({
  name: z.string(),
  bytes: z.number(),
  /** The speed of reading the shortest prompt. */
  prefill: figure,
  firstToken: z.array(z.object({ tokens: z.number().int(), seconds: figure })),
  decode: figure,
  /** Memory of the process with this file when the longest prompt is in the context. */
  memoryBytes: z.number(),
  /** Bytes of keys and values per token of context, as llama.cpp would save them. */
  keyValueBytes: z.number(),
  perplexities: z.array(z.object({ name: z.string(), value: z.number(), tokens: z.number().int() })),
})

/** Files measured in llama.cpp in turns, so that other load on the machine affects all of them. The first is compared with the others. */
export const fileBench = z.object({
  /** The release of the installed ggml and llama.cpp libraries. */
  release: z.string(),
  device: z.string(),
  threads: z.number().int(),
  rounds: z.number().int(),
  /** Length of the context that the files were opened with, in tokens. */
  context: z.number().int(),
  /** How the windows of the texts began; absent if no text was measured or all began as in the 2SSP reference. */
  beginToken: usedBegin.optional(),
  files: z.array(benchedFile),
})

/** Which files to measure, and how. */
export const benchRequest = z.object({
  files: z.array(readPlace.min(1)).min(1).max(mostFiles),
  /** Texts to measure perplexity on. Each name is the title of a row. */
  texts: z
    .array(z.object({ name: z.string().min(1), data: dataRequest }))
    .max(20)
    .default([]),
  /** How the windows of all texts begin. `auto` measures the first file. Default: reference. */
  beginToken: beginChoice.optional(),
  /** Prompt lengths in tokens. Those that exceed the files' context are left out. */
  prompts: z
    .array(
      z
        .number()
        .int()
        .positive()
        .max(2 ** 20),
    )
    .min(1)
    .max(10)
    .default([...usualPrompts]),
  rounds: z.number().int().positive().max(100).default(usualRounds),
  /** Default: one thread for each processor. */
  threads: z.number().int().positive().max(1024).optional(),
  /** The name that ggml gives the device. */
  device: z.string().default('CPU'),
})

/** Which speed to measure, for which method and weight type. Only the kind of `speed` matters, and its prompt length. */
export const speedRangeRequest = z.object({
  method: z.string(),
  options: z.record(z.string(), z.unknown()).default({}),
  weights: weightType.default('F16'),
  speed: speedBudget,
})

/** The range of speeds of a method's files, in the unit of the requested speed. `from` or `to` is the speed of the unpruned model. */
export const speedRange = z.object({ from: z.number(), to: z.number() })

export type SpeedRangeRequest = z.output<typeof speedRangeRequest>
export type SpeedRange = z.infer<typeof speedRange>
export type Figure = z.infer<typeof figure>
export type BenchedFile = z.infer<typeof benchedFile>
export type FileBench = z.infer<typeof fileBench>
export type BenchRequest = z.infer<typeof benchRequest>
