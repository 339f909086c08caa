import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { RecoveryRequest, TrainedWeights } from '#contract/pruning/recovery.ts'
import { type DecoderSpec, layoutOf, mixerProjections } from '#engine/architectures/spec.ts'
import { vocabularyShare } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { logitsPerTile } from '#engine/model/parts/head/token-losses.ts'
import { finalNormName, trainedName } from '#engine/model/views/plan-tensors.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import { partShapes, presentParts } from '#engine/model/weights/weights.ts'
import { rank } from './low-rank.ts'
import type { KeptMasters } from './student.ts'

/** Bytes per trained entry: its value, both moments, its best value, and the value for computing. */
const bytesPerEntry = 4 * 5

/**
 * Bytes per trained entry for its gradient, which is summed and then read. Gradients arise as a backward pass frees what the forward pass
 * kept.
 */
const bytesPerGradient = 4 * 2

/** Bytes per weight of a part in use to which a change is added: its sum, the value for computing and its gradient. */
const bytesPerUsed = 4 * 3

/** The same for a part that is read in each pass, and cut after it was read: stored, unpacked and sliced as well. */
const bytesPerRead = 4 * 6

/** Matrices per tile: the logits of both models, their softmax, the difference and its scaled copy. */
const tiles = 6

const mebibytes = (bytes: number): string => Math.ceil(bytes / 2 ** 20).toLocaleString('en')

/**
 * Returns the most rows that go through the model at once. If parts are small, all rows of a step do, so that weights are packed and
 * gradients computed once for all. In larger models a cancel would take too long, because it takes effect only between parts.
 */
export const mostRows = ({ hidden }: DecoderSpec): number => (hidden <= 1024 ? tokensPerStep : tokensPerStep / 2)

export interface Room {
  /** How many windows go through the model at once. */
  readonly together: number
  /** Whether the forward pass keeps what the backward pass needs. If not, it is computed again. */
  readonly keeps: boolean
  /** All weights, or a low-rank change to them. */
  readonly trains: TrainedWeights
  /** What stays in memory of each weight. */
  readonly masters: KeptMasters
  /** Weights that the plan leaves. */
  readonly entries: number
  /** Bytes that training then needs in addition to embedding and head. */
  readonly bytes: number
}

/** The bytes that training needs, counted before anything is read. */
interface Needs {
  /** Weights that the plan leaves. */
  readonly entries: number
  readonly masters: KeptMasters
  /** Trained weights with their moments and copies, the head as products need it, and a tile of logits. */
  readonly fixed: number
  /** Gradients of all trained weights, both copies. */
  readonly gradients: number
  /** Per window: what the forward pass keeps for the backward pass. */
  readonly kept: number
  /** Per window: the streams from which that can be computed again. */
  readonly streams: number
}

/**
 * Returns the shapes of everything that a plan leaves to train, by the tensor names of a plan. `spec` has the layout that the plan leaves.
 */
export function trainedShapes(spec: DecoderSpec): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>()
  for (const part of presentParts(spec))
    for (const [key, shape] of Object.entries(partShapes(spec, part))) shapes.set(trainedName(spec, part, key), shape)
  shapes.set(finalNormName('weight'), [spec.hidden])
  if (spec.finalNorm.bias) shapes.set(finalNormName('bias'), [spec.hidden])
  return shapes
}

/**
 * Decides how training uses the memory that embedding and head leave. The dense model's other weights are not loaded during training.
 * Unless `wanted` says what is trained, all weights are trained if they fit, otherwise a change of low rank. If the weights that it changes
 * do not fit either, they are read in each pass. As many windows as possible go through the model at once. Throws `out-of-memory` if even
 * one does not fit.
 */
export function roomFor(freeBytes: number, dense: DecoderSpec, plan: Plan, tokens: number, wanted?: TrainedWeights): Room {
  const spec = specWithPlan(dense, plan)
  const ways = masterKinds.filter((masters) => wanted === undefined || wanted === trainedWith(masters))
  for (const masters of ways) {
    const { entries, fixed, gradients, kept, streams } = needsOf(dense, spec, tokens, masters)
    // Weights to which a change is added are made twice for each batch, so few and large batches are faster.
    const most = Math.max(1, Math.floor((masters === 'moments' ? mostRows(spec) : tokensPerStep) / tokens))
    for (const keeps of [true, false]) {
      for (let together = most; together >= 1; together--) {
        // Windows that pass later find the sums of the earlier ones.
        const summed = together < most ? gradients / 2 : 0
        const bytes = fixed + Math.max(gradients, summed + together * (keeps ? kept : streams))
        if (bytes <= freeBytes) return { together, keeps, trains: trainedWith(masters), masters, entries, bytes }
      }
    }
  }
  const needs = ways.map((masters) => needsOf(dense, spec, tokens, masters))
  throw tooLarge(
    freeBytes,
    needs.reduce((least, other) => (other.fixed < least.fixed ? other : least)),
    tokens,
  )
}

/** Returns the bytes of the training that needs the least memory: a low-rank change, one window at a time. */
export function leastBytes(dense: DecoderSpec, plan: Plan, tokens: number): number {
  const needs = frozenKinds.map((masters) => needsOf(dense, specWithPlan(dense, plan), tokens, masters))
  return Math.min(
    ...needs.map(({ fixed, gradients, kept, streams }) => fixed + Math.max(gradients, gradients / 2 + Math.min(kept, streams))),
  )
}

/** From the fastest kind of training to the one that needs the least memory. */
const frozenKinds: readonly KeptMasters[] = ['values', 'shapes']
const masterKinds: readonly KeptMasters[] = ['moments', ...frozenKinds]
const trainedWith = (masters: KeptMasters): TrainedWeights => (masters === 'moments' ? 'all' : 'low-rank')

/** Throws `out-of-memory` if the memory limit leaves embedding and head on disk. Every step reads all of both. */
export function requireWholeHead(stays: boolean, spec: DecoderSpec): void {
  if (stays) return
  const bytes = Vocabulary.bytes(spec)
  throw new EspalierError(
    'out-of-memory',
    `Recovery needs the embedding and the head in memory, ${mebibytes(bytes)} MiB. They may take ${100 * vocabularyShare} % of it. Give at least ${mebibytes(bytes / vocabularyShare)} MiB.`,
  )
}

function tooLarge(freeBytes: number, { entries, fixed, gradients, streams, masters }: Needs, tokens: number): EspalierError {
  const [how, other] = masters === 'moments' ? ['', 'train low-rank changes, '] : [` with rank-${rank} updates`, '']
  return new EspalierError(
    'out-of-memory',
    `Recovery needs ${mebibytes(fixed + gradients / 2)} MiB to train ${(entries / 1e6).toFixed(1)} million weights${how} and ${mebibytes(streams)} MiB for one window of ${tokens} tokens, but only ${mebibytes(freeBytes)} MiB are free. Give more memory, ${other}use shorter windows, or remove more.`,
  )
}

function needsOf(dense: DecoderSpec, spec: DecoderSpec, tokens: number, masters: KeptMasters): Needs {
  const shapes = [...trainedShapes(spec).values()]
  const entries = sizeOf(shapes)
  const factors = shapes.reduce((sum, [rows = 0, columns]) => sum + (columns === undefined ? 0 : rank * (rows + columns)), 0)
  const changing = factors * bytesPerEntry + 8 * Math.max(...shapes.map((shape) => sizeOf([shape])))
  const weights = {
    moments: () => entries * bytesPerEntry,
    values: () => 4 * entries + largestPart(spec) * bytesPerUsed + changing,
    shapes: () => largestPart(dense) * bytesPerRead + changing,
  }[masters]()
  // Products with 16-bit operands need the head twice in 16 bits: for logits, and transposed for gradients.
  const head = 4 * spec.vocabulary * spec.hidden
  const fixed = weights + head + 4 * tiles * Math.max(logitsPerTile, spec.vocabulary)
  const rows = spec.blocks.map((_, block) => keptPerRow(spec, block))
  const largest = 2 * Math.max(...rows)
  const all = rows.reduce((sum, own) => sum + own, 0)
  // The dense model's final states are in memory too.
  const perToken = (numbers: number) => 4 * tokens * (numbers + largest + spec.hidden)
  const gradients = bytesPerGradient * (masters === 'moments' ? entries : factors)
  return { entries, masters, fixed, gradients, kept: perToken(all), streams: perToken(4 * spec.hidden * spec.blocks.length) }
}

const sizeOf = (shapes: readonly (readonly number[])[]): number =>
  shapes.reduce((sum, shape) => sum + shape.reduce((size, length) => size * length, 1), 0)

/** Returns the weights of the largest part, which is read completely before a plan cuts it. */
const largestPart = (spec: DecoderSpec): number =>
  Math.max(...presentParts(spec).map((part) => sizeOf(Object.values(partShapes(spec, part)))))

/** Returns how many numbers the backward pass of a block needs for each row. */
export function keptPerRow(spec: DecoderSpec, block: number): number {
  const { attention, width } = layoutOf(spec, block)
  const { heads, headSize, hidden } = spec
  const { delta } = spec.block(block)
  // Queries count twice if they have gates. A DeltaNet's projections are those of its matrix, and it keeps them once.
  const projected = mixerProjections(spec.block(block)).reduce((sum, { rows }) => sum + rows, 0)
  const mixed = delta ? delta.gate.rows : 2 * heads * headSize
  const ofAttention = attention ? 2 * hidden + (delta ? 1 : 2) * projected + mixed : 0
  return ofAttention + (width > 0 ? 2 * hidden + 2 * width : 0) + 2 * hidden
}

/** Seconds that the parts of a recovery take on this machine, measured before its length is chosen. */
export interface Costs {
  /** Opening the training. */
  readonly open: number
  /** A step, with its update of the weights. */
  readonly step: number
  /** A measurement on the held-out text. */
  readonly look: number
  /** Storing the state. */
  readonly save: number
  /** Reading the dense model's weights, and its states of a window. */
  readonly pass: number
  readonly states: number
  /** Text of a window: almost nothing, unless the dense model writes it. */
  readonly text: number
}

/**
 * Returns how many measurements on held-out text a training on that many windows makes, in addition to the one at the start. Each costs as
 * much as training on 8 windows.
 */
export const measurementsOf = (windows: number): number => Math.min(most, Math.max(fewest, Math.round(windows / 16)))
/** The most and the fewest measurements of a training. */
const [most, fewest] = [8, 4]

/** Closing writes the best weights: a third of a state, which also has two moments. */
const closing = ({ save }: Pick<Costs, 'save'>): number => save / 3

/** How many windows a recovery trains on, and how often it measures itself after the start. */
interface Length {
  readonly windows: number
  readonly looks: number
}

/**
 * Returns the length of a recovery that takes `seconds`. More windows than a step has are rounded to whole steps. Measurements take at most
 * half as long as training, except the last one. Throws `infeasible` if not even one window fits.
 * @param heldOut number of held-out windows
 * @param minutes that were requested, for the error
 */
export function lengthWithin(
  seconds: number,
  costs: Costs,
  { windowsPerStep, heldOut, minutes }: { readonly windowsPerStep: number; readonly heldOut: number; readonly minutes: number },
): Length {
  const { open, step, look, save, pass, states, text } = costs
  const each = step / windowsPerStep + states + text
  const fixed = (looks: number) => open + pass + heldOut * states + (looks + 1) * look + looks * save + closing(costs)
  const fitting = (looks: number): number => {
    const windows = (seconds - fixed(looks)) / each
    return windows < windowsPerStep ? Math.floor(windows) : windowsPerStep * Math.round(windows / windowsPerStep)
  }
  for (let looks = most; looks > 1; looks--) {
    const windows = fitting(looks)
    const isBrief = looks * (look + save) <= 0.5 * windows * each
    if (isBrief && looks <= measurementsOf(windows)) return { windows, looks }
  }
  const windows = fitting(1)
  if (windows >= 1) return { windows, looks: 1 }
  const least = Math.ceil(minutes + (fixed(1) + each - seconds) / 60)
  throw new EspalierError(
    'infeasible',
    `${minutes} minutes are too short for this recovery: on this machine, the dense model's states, two measurements and one step take about ${least}. Choose at least ${least} minutes, or a number of tokens.`,
  )
}

/** The time that is left of a recovery's minutes. */
export interface TimeLimit {
  /** All of it, in seconds. */
  readonly seconds: number
  /** How often the training measures itself after the start. */
  readonly looks: number
  /** Seconds that are left. */
  left(): number
  readonly costs: Costs
}

/** A training may take this share of its time longer before it is shortened, so that small changes of speed change nothing. */
const slack = 0.03

/** Planned steps, and the step and the measurement after which they were planned. */
export interface Schedule {
  readonly steps: number
  readonly step: number
  readonly look: number
}

/** Returns the steps after which the training measures itself. */
export function stepsToLookAt({ steps, step, look }: Schedule, looks: number): Set<number> {
  const rest = Array.from({ length: looks - look }, (_, i) => i + 1)
  return new Set(rest.map((i) => Math.max(1, step + Math.round((i * (steps - step)) / (looks - look)))))
}

/**
 * Returns the schedule for the rest of a training: fewer steps if the time is too short for those that are planned, because the machine
 * became slower. The rate then falls faster, so that the training still ends with small steps.
 * @param looks that the whole training makes
 */
export function scheduleWithin(
  limit: TimeLimit,
  { schedule, step, points }: { readonly schedule: Schedule; readonly step: number; readonly points: readonly unknown[] },
  looks: number,
  stepSeconds: number,
): Schedule {
  const { costs } = limit
  const look = points.length - 1
  const left = limit.left() + slack * limit.seconds - (looks - look) * (costs.look + costs.save) - closing(costs)
  const steps = Math.max(1, step + Math.max(0, Math.round(left / stepSeconds)))
  return steps < schedule.steps ? { steps, step, look } : schedule
}

/** The settings of a training, besides its text. */
export interface Recipe {
  readonly tokens: number
  readonly windowsPerStep: number
  /** The highest rate that was requested. Default: `usualRate`. */
  readonly rate?: number
  readonly trains: TrainedWeights
}

/** Tokens per step. */
export const tokensPerStep = 2048

/** The rates that were the best for SmolLM2-135M: its width, the root mean square of its matrices, and the rates by what is trained. */
const measured = { hidden: 576, weights: 0.193, all: 4e-4, 'low-rank': 2e-3 }
const highestRates = { all: 1e-3, 'low-rank': 5e-3 }

/** Returns the settings of a training: those of the request, and defaults for the rest. */
export function recipeFor({ rate, text }: RecoveryRequest, tokens: number, trains: TrainedWeights): Recipe {
  const windowsPerStep = Math.max(1, Math.round(tokensPerStep / text.sequenceLength))
  return { tokens, windowsPerStep, ...(rate === undefined ? {} : { rate }), trains }
}

/**
 * Returns the default rate. Adam moves every weight by about the rate, so weights that are smaller need a lower one (Adafactor's relative
 * step, arXiv 1804.04235, section 8), and so do wider models, where more moves add up.
 * @param weights the root mean square of the matrices' entries
 */
export function usualRate(hidden: number, weights: number, trains: TrainedWeights): number {
  return Math.min(highestRates[trains], measured[trains] * (measured.hidden / hidden) * (weights / measured.weights))
}
