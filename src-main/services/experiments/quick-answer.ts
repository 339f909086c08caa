import { enoughWindows } from '#contract/comparison/verdict-sentence.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import { sourceName } from '#contract/data/source-name.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Grid, QuickSizes, QuickTarget } from '#contract/experiments/experiments.ts'
import type { FormatOutline } from '#contract/exports/exports.ts'
import { usualRepetition } from '#contract/protocol.ts'
import { defaultRepairData } from '#contract/pruning/repair.ts'
import { amountText, inMegabytes } from '#contract/runs/amount-text.ts'
import type { Amount, MeasureRequest } from '#contract/runs/run-request.ts'
import { bundledTitles, type GgufType, type WeightType } from '#contract/titles.ts'
import { brief } from './presets.ts'

/** A quick answer should take no longer than this. */
export const quickSeconds = 300

const sequenceTokens = 256
/** Types that a pruned file is written in, best first. */
const prunedTypes: readonly GgufType[] = ['F16', 'Q8_0', 'Q4_K_M']
/** The smallest type among them, which tells how small pruning makes a file. */
export const smallestType: GgufType = 'Q4_K_M'
/** The share of the block stack that a first look removes at most. Beyond it, little is left of any model. */
export const mostRemoved = 0.5
/** The most unpruned files that compete with the pruned one. */
const mostRivals = 2
/** Two files whose sizes differ by no more than this share count as equal. */
const sameSize = 0.01

/** How thorough a quick answer is. The first look that fits into the time is taken. */
interface Look {
  readonly windows: number
  readonly measured: number
  readonly answers: number
  readonly isRepaired: boolean
  /** Whether parts are ranked once instead of by training gates. */
  readonly ranksOnce?: boolean
}

const looks: readonly Look[] = [
  { windows: 32, measured: enoughWindows, answers: 16, isRepaired: true },
  { windows: 16, measured: enoughWindows, answers: 8, isRepaired: true },
  { windows: 16, measured: enoughWindows, answers: 0, isRepaired: true, ranksOnce: true },
  { windows: 8, measured: enoughWindows, answers: 0, isRepaired: false, ranksOnce: true },
  { windows: 4, measured: 4, answers: 0, isRepaired: false, ranksOnce: true },
]

/** The prices of gates without training. They are better than 2SSP's choice and need no search. */
const gatePrices = { method: 'gates', options: { steps: 0 } }

/** Joins the sizes of the unpruned model's files, largest first. Some types come out equal: their rows are too short for K-quants. */
export function joinSizes(outlines: readonly FormatOutline[]): QuickSizes['files'] {
  const known = outlines.flatMap(({ type, bytes }) => (type === null || bytes === null ? [] : [{ type: type as GgufType, bytes }]))
  return [...Map.groupBy(known, ({ bytes }) => bytes)]
    .map(([bytes, same]) => ({ types: same.map(({ type }) => type), bytes }))
    .sort((a, b) => b.bytes - a.bytes)
}

export interface QuickQuestion {
  readonly model: { readonly id: string; readonly name: string; readonly contextLength: number }
  /** The user's own text, of which a part decides; null for general text. */
  readonly text: DataRequest | null
  readonly target: QuickTarget
  readonly sizes: QuickSizes
  /** Whether a file of the target's size can have mixed types. */
  readonly mixes: boolean
}

/** Returns grids that answer the question, the most thorough first. */
export function quickGrids(question: QuickQuestion): Grid[] {
  const { model, text, sizes } = question
  const sequenceLength = Math.min(sequenceTokens, model.contextLength)
  return looks.map(({ windows, measured, answers, isRepaired, ranksOnce }) => {
    const gates = ranksOnce ? gatePrices : brief
    const method = sizes.method === 'gates' ? gates : { method: sizes.method, options: {} }
    const calibration: DataRequest = { ...(text ?? { source: 'mixed' }), sequenceLength, windows }
    return {
      models: [model.id],
      methods: [method],
      amounts: [amountFor(question)],
      seeds: [0],
      calibration,
      ...(isRepaired ? { repairs: ['in-order'], repairData: { ...defaultRepairData(calibration), windows } } : { repairs: ['none'] }),
      ...typesFor(question),
      measures: measuresOf(question, { sequenceLength, measured, answers }),
      beginToken: 'auto',
      backend: 'auto',
      precision: 'auto',
    }
  })
}

const amountOf = (target: QuickTarget): Amount => ('bytes' in target ? { ...target, format: 'gguf' } : target)

/** Gates divide the bytes between parts and bits where the model allows it. */
const amountFor = ({ target, mixes, sizes: { method } }: QuickQuestion): Amount =>
  mixes && 'bytes' in target && method === 'gates' ? { ...amountOf(target), type: `MIXED:${target.bytes}` } : amountOf(target)

/** Throws if no file of the target's size can be made, or the model's file is as small already. */
export function checkSize(bytes: number, sizes: QuickSizes): void {
  if (bytes < sizes.least)
    throw new EspalierError(
      'infeasible',
      `No file of ${inMegabytes(bytes, Math.round)} MB can be made. Choose ${inMegabytes(sizes.least, Math.ceil)} MB or more.`,
    )
  if (bytes > sizes.today * (1 + sameSize))
    throw new EspalierError(
      'infeasible',
      `The file of the model is smaller than ${inMegabytes(bytes, Math.round)} MB already. Choose ${inMegabytes(sizes.today, Math.floor)} MB or less.`,
    )
}

/** Chooses the types of pruned files that have to shrink to meet the target, and the unpruned files that meet it already. */
function typesFor({ target, sizes, mixes }: QuickQuestion): Pick<Grid, 'weights' | 'rivals'> {
  if (!('bytes' in target)) return { weights: [smallestType], rivals: ['Q4_0', 'Q3_K_M', 'Q2_K'] }
  const { bytes } = target
  const sizeOf = (type: GgufType) => sizes.files.find(({ types }) => types.includes(type))?.bytes ?? 0
  const shrinking = prunedTypes.filter((type) => sizeOf(type) > bytes * (1 + sameSize))
  // A larger type has to lose more of the model, so only the smallest that still has to shrink is pruned.
  const weights: WeightType[] = [shrinking.at(-1) ?? smallestType]
  const fitting = sizes.files.filter((file) => file.bytes <= bytes * (1 + sameSize))
  const uniform = fitting.length > 0 || mixes ? fitting : sizes.files.slice(-1)
  const mixed: WeightType[] = mixes ? [`MIXED:${bytes}`] : []
  const rivals = [...mixed, ...uniform.flatMap(({ types: [type] }) => type ?? [])].slice(0, mostRivals)
  return { weights, rivals: rivals.filter((type) => !weights.includes(type)) }
}

interface Amounts {
  readonly sequenceLength: number
  readonly measured: number
  readonly answers: number
}

/** Text that no choice reads: the user's own part that decides and prose, or prose and source code. */
function measuresOf({ model, text, target }: QuickQuestion, { sequenceLength, measured, answers }: Amounts): MeasureRequest[] {
  const bundled = (source: 'prose' | 'code'): MeasureRequest => ({
    kind: 'perplexity',
    data: { source, sequenceLength, windows: measured },
    name: bundledTitles[source],
  })
  const own = text && { ...text, sequenceLength, split: { part: 'deciding' as const, seed: text.split?.seed ?? 0 } }
  const name = own ? sourceName(own.source) : bundledTitles.prose
  const texts: MeasureRequest[] = own
    ? [{ kind: 'perplexity', data: { ...own, windows: measured }, name }, bundled('prose')]
    : [bundled('prose'), bundled('code')]
  const loops = usualRepetition(own ?? { source: 'prose' }, name, model.contextLength)
  return [
    ...texts,
    ...(answers > 0 ? [{ ...loops, data: { ...loops.data, windows: answers } }] : []),
    ...('bytes' in target ? [] : [{ kind: 'inference' as const, sequenceLength, repeats: 3 }]),
  ]
}

/** A name such as `Qwen at 300 MB, notes.txt`. */
export function quickName({ model, text, target }: QuickQuestion): string {
  const name = `${model.name} at ${amountText(amountOf(target))}${text ? `, ${sourceName(text.source)}` : ''}`
  return name.slice(0, 200)
}
