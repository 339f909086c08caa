import { z } from 'zod'
import { dataRequest } from '../data/data-request.ts'
import { readPlace } from '../places.ts'
import { speedBudget, weightType } from '../runs/run-request.ts'

/** Prompt lengths to measure, as far as the context allows. */
export const usualPrompts = [512, 2048, 8192] as const
/** Prompt lengths of a run: its own, and the usual ones below. */
export const promptsUpTo = (tokens: number): number[] => [...usualPrompts.filter((usual) => usual < tokens), tokens]
/** How many turns each file gets. */
export const usualRounds = 3
/** Tokens generated in each turn. */
export const writtenTokens = 32
/** A turn repeats until then, because single passes of a small model are too short for a steady time. */
export const shortestTurnSeconds = 0.25

/** The median of all rounds, with the lowest and the highest. */
const figure = z.object({ value: z.number(), low: z.number(), high: z.number() })

/** What one file costs to run. Speeds are in tokens per second. */
const benchedFile = z.object({
  name: z.string(),
  bytes: z.number(),
  /** With the shortest prompt. */
  prefill: figure,
  firstToken: z.array(z.object({ tokens: z.number().int(), seconds: figure })),
  decode: figure,
  /** Memory of the process with this file, when the longest prompt fills the context. */
  memoryBytes: z.number(),
  /** Per token of context, as llama.cpp would save it. */
  keyValueBytes: z.number(),
  perplexities: z.array(z.object({ name: z.string(), value: z.number(), tokens: z.number().int() })),
})

/** Files measured in llama.cpp in turns, so that a disturbance of the machine affects all of them. The others are compared with the first. */
export const fileBench = z.object({
  /** The release of the library's packages. */
  release: z.string(),
  device: z.string(),
  threads: z.number().int(),
  rounds: z.number().int(),
  /** Tokens of the context that the files were opened with. */
  context: z.number().int(),
  files: z.array(benchedFile),
})

/** Which files to measure, and how. */
export const benchRequest = z.object({
  files: z.array(readPlace.min(1)).min(1).max(20),
  /** Texts that perplexities are measured on, with the names of their rows. */
  texts: z
    .array(z.object({ name: z.string().min(1), data: dataRequest }))
    .max(20)
    .default([]),
  /** Tokens of the prompts; lengths that the files do not hold are left out. */
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
  /** Default: one for each processor. */
  threads: z.number().int().positive().max(1024).optional(),
  /** A device as ggml names it. */
  device: z.string().default('CPU'),
})

/** A method on a model, in a weight type, and the kind of speed. */
export const speedRangeRequest = z.object({
  method: z.string(),
  options: z.record(z.string(), z.unknown()).default({}),
  weights: weightType.default('F16'),
  speed: speedBudget,
})

/** The slowest and the fastest speed of a method's files, in the unit of the speed that was asked for: the unpruned model's is one end. */
export const speedRange = z.object({ from: z.number(), to: z.number() })

export type SpeedRangeRequest = z.output<typeof speedRangeRequest>
export type SpeedRange = z.infer<typeof speedRange>
export type Figure = z.infer<typeof figure>
export type BenchedFile = z.infer<typeof benchedFile>
export type FileBench = z.infer<typeof fileBench>
export type BenchRequest = z.infer<typeof benchRequest>
