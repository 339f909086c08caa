import { z } from 'zod'
import { plot } from '../comparison/plot.ts'
import { table } from '../comparison/table.ts'
import { usedBegin } from '../data/begin-token.ts'
import { scoredTask } from '../data/questions.ts'
import { usedData } from '../data/used-data.ts'
import { divergence, divergenceOfRun } from '../inspection/divergence.ts'
import { type CandidateMeasure, candidateMeasures, measuresIn } from '../pruning/candidates.ts'
import { judgedExperts } from '../pruning/experts.ts'
import { gateTraining } from '../pruning/gates.ts'
import { mixedTypes } from '../pruning/mixed-types.ts'
import { plan } from '../pruning/plan.ts'
import { certified, precision } from '../pruning/precision.ts'
import { recovery } from '../pruning/recovery.ts'
import { repair } from '../pruning/repair.ts'
import { tokenRanking } from '../pruning/token-ranking.ts'
import { measure } from './measures.ts'
import { fileBudget, speedBudget } from './run-request.ts'

/**
 * How a choice among estimated scores was certified: the number of candidates rescored with float32 accuracy, and the largest error of the
 * estimates on a window, relative to them. An evolutionary search rescores on only as many windows as it takes to separate the candidates.
 */
const certificate = z.object({ rescored: z.number().int().nonnegative(), error: z.number().nonnegative() })

const measured = Object.fromEntries(Object.keys(candidateMeasures).map((name) => [name, z.number().optional()])) as Record<
  CandidateMeasure,
  z.ZodOptional<z.ZodNumber>
>

/** One candidate of a decision: the block to remove (the first one, for a run of blocks), and its score under one measure's name. */
const candidateScore = z
  .object({
    block: z.number().int(),
    ...measured,
    /** Set if the score was computed with bfloat16 products. The candidate could not win. All other scores are float32. */
    estimated: z.literal(true).optional(),
  })
  .refine((score) => measuresIn(score).length === 1, 'a candidate has one score')

/**
 * One removal, with the scores of all its candidates. `tied` lists blocks with an equal score, `trusted` those that a lazy search skipped
 * because they had scored worse before. A run of consecutive blocks is chosen once: its first removal has the scores, the others have none.
 */
export const decision = z.object({
  round: z.number().int().positive(),
  kind: z.enum(['attention', 'mlp', 'block']),
  block: z.number().int().nonnegative(),
  scores: z.array(candidateScore),
  tied: z.array(z.number().int()).optional(),
  trusted: z.array(z.number().int()).optional(),
  certified: certificate.optional(),
})

/** One selection of an evolutionary search. Candidates are `attention/mlp` strings of 0 and 1 (1 is removed). */
export const selection = z.object({
  generation: z.number().int().nonnegative(),
  tokens: z.number().int().positive(),
  candidates: z.array(z.string()),
  fitness: z.array(z.number()),
  survivors: z.array(z.number().int()),
  /**
   * Indices of candidates whose fitness used bfloat16 products on at least some windows. The error bound guarantees that the choice of
   * survivors is the same as with float32.
   */
  estimated: z.array(z.number().int()).optional(),
  certified: certificate.optional(),
})

/**
 * How the stream's variance before a part is spread over its principal components: `values` are eigenvalues as shares of their sum,
 * largest first, at the indices `at` out of `of`. `kept` components remain, and they hold the share `held` of the variance.
 */
export const spectrum = z.object({
  part: z.number().int().nonnegative(),
  of: z.number().int(),
  at: z.array(z.number().int()),
  values: z.array(z.number()),
  kept: z.number().int(),
  held: z.number(),
})

/** The cost that was predicted when the sparsity was chosen, and the real cost, in the budget's unit. */
const outcome = { predicted: z.number(), real: z.number() }
const [rate, delay] = speedBudget.options
export const metBudget = z.union([fileBudget.extend(outcome), rate.extend(outcome), delay.extend(outcome)])

const sparsity = z.object({ nominal: z.number(), reached: z.number() })

/**
 * How many windows passed through attention submodules, MLPs and the head while candidates were scored. Another `recalled` passes were
 * replaced by remembered outputs.
 */
export const passes = z.object({ attention: z.number(), mlp: z.number(), head: z.number(), recalled: z.number().optional() })

/** How far a run is from the dense model, token by token (see `inspection/divergence.ts`). */
const divergenceDocument = divergence.pick({ data: true, tokens: true, dense: true }).extend(divergenceOfRun.omit({ run: true }).shape)

/** The result of a run: printed by `--json`, kept in the history, and read by scripts. `npm run generate` prints the descriptions. */
export const runDocument = z.object({
  model: z.string().describe('The model that was pruned: a path or a name on the hub.'),
  fingerprint: z.string().optional().describe('The SHA-256 of the used model’s content: its config, tokenizer and weights.'),
  method: z.string().describe('The name of the method, or `dense`.'),
  options: z.record(z.string(), z.unknown()).describe('All options of the method, with defaults filled in.'),
  seed: z.number().int().describe('The seed of the run. Seed 0 uses the calibration text in its own order.'),
  weights: z
    .string()
    .optional()
    .describe('The GGUF type that the weights were stored in and read back from before they were measured. Absent: as computed.'),
  beginToken: usedBegin
    .optional()
    .describe(
      'How the windows of all texts began: `{ asked, begins, token, figures }`. `figures` are the perplexities that `auto` compared: `{ without, with, windows, sequenceLength }`. Absent: without a begin token, as in the 2SSP reference.',
    ),
  calibration: usedData
    .optional()
    .describe(
      'The windows that the method used: `{ source, revision, sequenceLength, windows, seed, hash, beginToken }`. `hash` is the SHA-256 of their token ids as little-endian 32-bit numbers, `beginToken` is true if each window begins with the begin token. A dense model has none.',
    ),
  evaluation: z
    .array(usedData)
    .describe('The windows of each perplexity, in the order of the measures. Entries have the same fields as `calibration`.'),
  sparsity: sparsity.describe(
    '`nominal` is the requested share, `reached` the removed share of the block stack’s parameters, or of all parameters for the method `vocabulary`.',
  ),
  budget: metBudget
    .optional()
    .describe(
      'Of `--fit`: `{ bytes, format, type }`, `{ tokensPerSecond }` or `{ milliseconds, prompt }` as asked for, with `predicted`, the cost that the choice was made by, and `real`, that of the file.',
    ),
  plan: plan.describe(
    '`blocks[i]` is `{ attention: "kept" | "removed", mlp: { kept: number[] | "all" } | "removed" }`. Of a mixture, `mlp.experts` lists the experts that stay (absent: all), `mlp.constants` those that became a constant, and `mlp.expertScale` what the others were multiplied by. `replaced` lists repaired projections and recovered submodules, `slice` the width left by SliceGPT, `tensors` the files with their weights. `vocabulary.kept` lists the ids of the rows of embedding and head that stay.',
  ),
  repair: repair
    .optional()
    .describe(
      '`{ kind, windows, seconds, calibration, blocks: [{ block, projection, ridge, before, after, experts }] }`. Of a mixture, `experts` is `{ replaced, fitted, all }`, errors cover all experts together, and `ridge` is the one that most experts use. Errors are measured on held-out windows, as a share of the projection’s wanted output. Where the error did not fall, the old weights were kept.',
    ),
  recovery: recovery
    .optional()
    .describe(
      '`{ steps, plannedSteps, tokens, seconds, parameters, rate, products, text, heldOut: [{ kind, windows }], points: [{ step, tokens, loss, heldOut }], best }`. Losses are divergences from the dense model in nats per token, `points[i].heldOut` those on each kind of held-out text. `best` is the point whose weights were taken; 0 left the weights as they were.',
    ),
  gates: gateTraining
    .optional()
    .describe(
      'Of `gates`: `{ steps: [{ step, divergence, kept, attentionRemoved, closed, reopened }], priceWindows, windowsPerStep }`. `divergence` is in nats per token on the step’s windows, `kept` the neurons or experts of each block.',
    ),
  mixed: mixedTypes
    .optional()
    .describe(
      'Of mixed weight types: `{ bytes, divergence, tokens, tensors: [{ name, shape, choices: [{ type, bytes, price }] }] }`. `price` is the divergence in nats per token that a type is estimated to cause; `plan.types` has what was chosen.',
    ),
  ranking: tokenRanking
    .optional()
    .describe(
      'Of removed rows of the vocabulary: `{ texts: [{ name, tokens }], points: [{ rows, bytes, covered }], samples: [{ text, ends }], dearer: { text, words: [{ word, count, before, after }] } }`. `points[i].covered` is the share of each text’s tokens among that many rows, `samples[i].ends[j]` where tokens end with the rows of point `j`. `dearer.words` are those of the first measured text that rose most in total bits.',
    ),
  experts: judgedExperts
    .optional()
    .describe(
      'Of `reap`, and of `2ssp` with `experts`: `{ score, tokens, chosen, blocks: [{ block, tokens, scores, superExperts }] }`. `blocks[i].tokens` and `scores` are by expert number: calibration tokens routed to it, and its score.',
    ),
  decisions: z
    .array(decision)
    .describe(
      'Removals in order: `round`, `kind` (`attention`, `mlp` or `block`), `block`, and `scores: [{ block, perplexity }]` of all candidates. ShortGPT has `influence` instead of `perplexity`, window-based `similarity` or `angle`, on the first block of its run.',
    ),
  selections: z.array(selection).optional().describe('Of EvoPress: the candidates of each selection, with fitness and survivors.'),
  notes: z.array(z.string()).describe('Notes, such as ties and limits.'),
  measures: z
    .array(measure)
    .describe(
      'Results: `name`, `dataset`, `value`, `unit`, and the standard `error` where there is one. `on` says what a measure was taken on: `{ hash, count, sequenceLength, beginToken, text, bytes, vocabulary, precision }`. `losses` are the mean losses of a perplexity’s windows in nats per predicted token, `predicted` the tokens of each if they differ, and `hits` has one digit for each answer.',
    ),
  answers: z
    .array(z.object({ prompt: z.string(), text: z.string() }))
    .optional()
    .describe('The prompts of `--evaluate_qualitative`, with the model’s answers.'),
  questions: z
    .array(scoredTask)
    .optional()
    .describe('Answers to zero-shot tasks: `[{ task, questions: [{ context, choices, gold, scores, correct }] }]`, with scores in nats.'),
  divergence: divergenceDocument
    .optional()
    .describe(
      'Of `--evaluate_divergence`: `{ data, tokens, dense, numbers, groups, blocks, worst }`. A number is `{ value, error }` with one standard error.',
    ),
  passes: passes.optional().describe('Windows that passed through an attention, an MLP and the head while candidates were scored.'),
  precision: precision.optional().describe('How products were computed. Documents without it were computed in float32.'),
  certified: certified
    .optional()
    .describe(
      'Of a `mixed` run: `{ rounds, candidates, rescored }`, the number of choices, of candidates, and of those scored again with float32’s accuracy. A score with `estimated: true` only ranked its candidate.',
    ),
  seconds: z.record(z.string(), z.number()).describe('Seconds by phase.'),
  backend: z.string().describe('The runtime and device that computed the run.'),
  version: z.string().describe('The version of Espalier.'),
})

/** The result of an ablation. */
export const study = z.object({ table, plot })

/** The document of an ablation: a study instead of a plan. */
export const studyDocument = z.object({
  ...runDocument.omit({
    sparsity: true,
    budget: true,
    plan: true,
    decisions: true,
    selections: true,
    measures: true,
    answers: true,
    questions: true,
    divergence: true,
    passes: true,
  }).shape,
  study,
})

export type DivergenceDocument = z.infer<typeof divergenceDocument>
export type Study = z.infer<typeof study>
export type StudyDocument = z.infer<typeof studyDocument>
export type CandidateScore = z.infer<typeof candidateScore>
export type Decision = z.infer<typeof decision>
export type Spectrum = z.infer<typeof spectrum>
export type Selection = z.infer<typeof selection>
export type RunDocument = z.infer<typeof runDocument>
