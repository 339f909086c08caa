import type { BeginChoice } from '#contract/data/begin-token.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import { sourceName } from '#contract/data/source-name.ts'
import type { Grid, GridInput, Preset, RecoveryChoice, RepairChoice, WeightChoice } from '#contract/experiments/experiments.ts'
import { paperAnswers, paperLength, usualLongContext, usualRepetition } from '#contract/protocol.ts'
import type { Catalogue, DatasetEntry, MethodEntry, OptionField } from '#contract/pruning/methods.ts'
import type { PrecisionName } from '#contract/pruning/precision.ts'
import { defaultRepairData } from '#contract/pruning/repair.ts'
import { amountText, rowsText } from '#contract/runs/amount-text.ts'
import type { Amount, KeptRows, MeasureRequest } from '#contract/runs/run-request.ts'
import { setsRows, type WeightType, writtenTitles } from '#contract/titles.ts'
import { formatPlural } from '../../lib/format.ts'

/** A method in the draft. The same method may occur several times with other options. */
export interface MethodDraft {
  key: number
  method: string
  options: Record<string, unknown>
}

/** How much of each perplexity text is measured. Undefined leaves each text its own value. */
export interface Evaluation {
  sequenceLength: number | undefined
  /** Null measures all of a text. */
  windows: number | null | undefined
}

/** What the form holds. Measures are kept apart by kind, as the form shows them. */
export interface Draft {
  /** Empty while the experiment is named after what is chosen. */
  name: string
  models: string[]
  methods: MethodDraft[]
  amounts: Amount[]
  seeds: number[]
  calibration: DataRequest | null
  /** The tokens that stay before any method prunes; null for all. */
  vocabulary: KeptRows | null
  /** The repairs of every combination. Each makes a run. */
  repairs: RepairChoice[]
  repairData: DataRequest | null
  /** The recoveries of every combination. Each makes a run. */
  recoveries: RecoveryChoice[]
  recoveryData: DataRequest | null
  /** The weight types of every combination and of the dense model. Each makes a run. */
  weights: WeightChoice[]
  /** More weight types, for the dense model alone. */
  rivals: WeightType[]
  /** Smaller models whose unpruned files are rivals. */
  siblings: string[]
  perplexity: { name: string; data: DataRequest }[]
  evaluation: Evaluation
  tasks: string[]
  taskLimit: number | null
  /** Whether tasks with written answers are asked through the chat template. */
  taskChat: boolean
  /** Tokens of the longest prompt that is timed; null for none. */
  inferenceTokens: number | null
  answers: boolean
  /** Whether to measure how many greedy answers end in a loop, on the first perplexity text. */
  repetition: boolean
  /** Whether to measure how well a long context is used, on the first perplexity text. */
  longContext: boolean
  /** How the windows of all texts begin. */
  beginToken: BeginChoice
  backend: Grid['backend']
  precision: PrecisionName
  memoryBytes: number | null
  /** The cluster that computes the runs; null for the machine of this workbench. */
  executor: string | null
  /** A folder with named data sets and questions, so that none is downloaded; null for the hub. */
  localFolder: string | null
  /** Measures of a preset or a cloned run that this form has no field for; they are kept. */
  others: MeasureRequest[]
}

/** Props of the parts of the form that repair or recover every combination. */
export interface TreatmentPartProps {
  draft: Draft
  /** The texts that the chosen models may use. */
  texts: DatasetEntry[]
  problem: string | null
  onchange: (changes: Partial<Draft>) => void
}

const usualLength = 256

export function emptyDraft(): Draft {
  return {
    name: '',
    models: [],
    methods: [],
    amounts: [{ sparsity: 0.25 }, { sparsity: 0.5 }],
    seeds: [0],
    calibration: null,
    vocabulary: null,
    repairs: ['none'],
    repairData: null,
    recoveries: ['none'],
    recoveryData: null,
    weights: ['computed'],
    rivals: [],
    siblings: [],
    perplexity: [],
    evaluation: { sequenceLength: usualLength, windows: null },
    tasks: [],
    taskLimit: null,
    taskChat: false,
    inferenceTokens: null,
    answers: false,
    repetition: false,
    longContext: false,
    beginToken: 'auto',
    backend: 'auto',
    precision: 'float32',
    memoryBytes: null,
    executor: null,
    localFolder: null,
    others: [],
  }
}

/** The fields of an object, or undefined for any other value. */
const fieldsOf = (value: unknown): Record<string, unknown> | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined

/** Names the fields that a change sets: `name`, or `calibration.windows` if a field within another one differs. */
export function changedFields(draft: Draft, changes: Partial<Draft>): string[] {
  const isSame = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other)
  return Object.entries(changes).flatMap(([name, next]) => {
    const before: unknown = draft[name as keyof Draft]
    if (isSame(before, next)) return []
    const [old, now] = [fieldsOf(before), fieldsOf(next)]
    if (!old || !now) return [name]
    const inner = new Set([...Object.keys(old), ...Object.keys(now)])
    return [...inner].filter((field) => !isSame(old[field], now[field])).map((field) => `${name}.${field}`)
  })
}

/** Returns `next` with the values of `draft` in the fields that `own` names. */
export function keepOwn(next: Draft, draft: Draft, own: ReadonlySet<string>): Draft {
  const kept: Record<string, unknown> = { ...next }
  for (const path of own) {
    const [name = '', field] = path.split('.')
    const value: unknown = draft[name as keyof Draft]
    const [old, now] = [fieldsOf(value), fieldsOf(kept[name])]
    if (field === undefined) kept[name] = value
    else if (old && now) kept[name] = { ...now, [field]: old[field] }
  }
  return kept as unknown as Draft
}

/** Whether models, seeds, the path of an own text or a share of a mix are missing. Until then, nothing is previewed or run. */
export function isUnfinished({ models, seeds, calibration, repairData, recoveryData, perplexity }: Draft): boolean {
  const texts = [calibration, repairData, recoveryData, ...perplexity.map(({ data }) => data)]
  return models.length === 0 || seeds.length === 0 || texts.some((text) => text?.source === '' || text?.mix?.some(isUnfinishedPart))
}

const isUnfinishedPart = ({ source, share }: NonNullable<DataRequest['mix']>[number]) => source === '' || !(share > 0)

/** The draft as the grid that is previewed and run. */
export function toGrid(draft: Draft): GridInput {
  return {
    models: draft.models,
    methods: draft.methods.map(({ method, options }) => ({ method, options })),
    amounts: draft.amounts,
    seeds: draft.seeds,
    ...(draft.calibration ? { calibration: draft.calibration } : {}),
    ...(draft.vocabulary ? { vocabulary: draft.vocabulary } : {}),
    repairs: draft.repairs,
    ...(draft.repairData && draft.repairs.some((repair) => repair !== 'none') ? { repairData: draft.repairData } : {}),
    ...(recovers(draft) ? { recoveries: draft.recoveries, ...(draft.recoveryData ? { recoveryData: draft.recoveryData } : {}) } : {}),
    ...(draft.weights.some((type) => type !== 'computed') ? { weights: draft.weights } : {}),
    ...(draft.rivals.length > 0 ? { rivals: draft.rivals } : {}),
    ...(draft.siblings.length > 0 ? { siblings: draft.siblings } : {}),
    measures: toMeasures(draft),
    ...(draft.beginToken === 'reference' ? {} : { beginToken: draft.beginToken }),
    backend: draft.backend,
    ...(draft.precision === 'float32' ? {} : { precision: draft.precision }),
    ...(draft.memoryBytes ? { memoryBytes: draft.memoryBytes } : {}),
    ...(draft.localFolder ? { localFolder: draft.localFolder } : {}),
  }
}

/** The draft without texts and tasks that cannot be downloaded. A calibration text is replaced by one that is here. */
export function withoutAbsent(draft: Draft, absent: readonly string[], here: readonly DatasetEntry[]): Partial<Draft> {
  const isAbsent = ({ source, mix = [] }: DataRequest) => [source, ...mix.map((part) => part.source)].some((one) => absent.includes(one))
  const usual = here.find(({ uses }) => uses.includes('calibration'))?.source
  const replaced = (text: DataRequest | null) => {
    if (!text || !isAbsent(text)) return text
    const { mix: _, ...own } = text
    return usual === undefined ? null : { ...own, source: usual }
  }
  const texts = draft.perplexity.filter(({ data }) => !isAbsent(data))
  const kept = here.find(({ uses }) => uses.includes('evaluation'))
  const first = draft.perplexity[0]
  return {
    tasks: draft.tasks.filter((task) => !absent.includes(task)),
    perplexity: texts.length > 0 || !kept || !first ? texts : [{ name: kept.title, data: { ...first.data, source: kept.source } }],
    calibration: replaced(draft.calibration),
    repairData: draft.repairData && isAbsent(draft.repairData) ? null : draft.repairData,
    recoveryData: draft.recoveryData && isAbsent(draft.recoveryData) ? null : draft.recoveryData,
  }
}

/** Whether some run is recovered. */
export const recovers = ({ recoveries }: Draft): boolean => recoveries.some((one) => one !== 'none')

function toMeasures(draft: Draft): MeasureRequest[] {
  const measures: MeasureRequest[] = draft.perplexity.map(({ name, data }) => ({
    kind: 'perplexity',
    name,
    data: measuredPart(data, draft.evaluation),
  }))
  if (draft.tasks.length > 0) {
    const { tasks, taskLimit, localFolder: folder } = draft
    const chat = draft.taskChat && tasks.some((task) => Object.hasOwn(writtenTitles, task))
    measures.push({
      kind: 'tasks',
      tasks,
      ...(taskLimit ? { limit: taskLimit } : {}),
      ...(chat ? { chat } : {}),
      ...(folder ? { folder } : {}),
    })
  }
  const kept = (kind: MeasureRequest['kind']) => draft.others.filter((other) => other.kind === kind)
  if (draft.inferenceTokens !== null) {
    const timed = draft.others.find((other) => other.kind === 'inference')
    measures.push({ kind: 'inference', sequenceLength: draft.inferenceTokens, repeats: timed?.repeats ?? 5 })
  }
  if (draft.repetition) measures.push(...onFirstText(draft, 'repetition'))
  if (draft.longContext) measures.push(...onFirstText(draft, 'long context'))
  if (draft.answers) measures.push(...(kept('answers').length > 0 ? kept('answers') : [paperAnswers(paperLength)]))
  return measures
}

/** The draft's other measures of a kind if they are on the form's first text, otherwise the default measure on that text. */
function onFirstText({ others, perplexity: [text] }: Draft, kind: 'repetition' | 'long context'): MeasureRequest[] {
  const kept = others.filter((other) => other.kind === kind && (!text || other.data.source === text.data.source))
  if (kept.length > 0 || !text) return kept
  return [kind === 'repetition' ? usualRepetition(text.data, text.name, paperLength) : usualLongContext(text.data, text.name)]
}

/** Gives a text the window length and the limit of windows of the form, where the form has them. */
export function measuredPart({ windows: own, ...data }: DataRequest, { sequenceLength, windows }: Evaluation): DataRequest {
  const most = windows === undefined ? own : windows
  return { ...data, sequenceLength: sequenceLength ?? data.sequenceLength, ...(most ? { windows: most } : {}) }
}

/** The window length and limit that all texts share, undefined where they differ. Without texts, the calibration's length. */
function commonPart(texts: readonly DataRequest[], calibration: DataRequest | undefined): Evaluation {
  const [first] = texts
  if (!first) return { sequenceLength: calibration?.sequenceLength ?? usualLength, windows: null }
  return {
    sequenceLength: texts.every(({ sequenceLength }) => sequenceLength === first.sequenceLength) ? first.sequenceLength : undefined,
    windows: texts.every(({ windows }) => windows === first.windows) ? (first.windows ?? null) : undefined,
  }
}

/** Turns a grid (of a preset or of an earlier run) into a draft without a name. */
export function fromGrid(grid: GridInput): Draft {
  const measures = grid.measures ?? []
  const tasks = measures.find((measure) => measure.kind === 'tasks')
  const perplexity = measures.flatMap((measure) => (measure.kind === 'perplexity' ? [{ name: measure.name, data: measure.data }] : []))
  return {
    ...emptyDraft(),
    models: grid.models,
    methods: grid.methods.map(({ method, options }, key) => ({ key, method, options: { ...options } })),
    amounts: grid.amounts,
    seeds: grid.seeds ?? [0],
    calibration: grid.calibration ?? null,
    vocabulary: grid.vocabulary ?? null,
    repairs: grid.repairs ?? ['none'],
    repairData: grid.repairData ?? null,
    recoveries: grid.recoveries ?? ['none'],
    recoveryData: grid.recoveryData ?? null,
    weights: grid.weights ?? ['computed'],
    rivals: grid.rivals ?? [],
    siblings: grid.siblings ?? [],
    perplexity,
    evaluation: commonPart(
      perplexity.map(({ data }) => data),
      grid.calibration,
    ),
    tasks: tasks?.tasks ?? [],
    taskLimit: tasks?.limit ?? null,
    taskChat: tasks?.chat ?? false,
    inferenceTokens: measures.find((measure) => measure.kind === 'inference')?.sequenceLength ?? null,
    answers: measures.some(({ kind }) => kind === 'answers'),
    repetition: measures.some(({ kind }) => kind === 'repetition'),
    longContext: measures.some(({ kind }) => kind === 'long context'),
    beginToken: grid.beginToken ?? 'reference',
    backend: grid.backend ?? 'auto',
    precision: grid.precision ?? 'float32',
    memoryBytes: grid.memoryBytes ?? null,
    executor: null,
    localFolder: grid.localFolder ?? tasks?.folder ?? null,
    others: measures,
  }
}

/** A first draft that can run unchanged: the first preset, otherwise the first method, measured on the first text that is available. */
export function defaultDraft(catalogue: Catalogue, model: string, presets: readonly Preset[]): Draft {
  const preset = presets[0]
  if (preset) return fromGrid(preset.grid)
  const evaluation = catalogue.datasets.find(({ uses, present }) => present && uses.includes('evaluation'))
  return {
    ...emptyDraft(),
    models: [model],
    methods: catalogue.methods.slice(0, 1).map(({ id }, key) => ({ key, method: id, options: {} })),
    perplexity: evaluation ? [{ name: evaluation.title, data: { source: evaluation.source, sequenceLength: usualLength } }] : [],
  }
}

/** The preset that would make the same runs as the draft, whatever models the preset is for. */
export function presetOf(draft: Draft, presets: readonly Preset[]): Preset | undefined {
  const wanted = JSON.stringify(toGrid(draft))
  const own = draft.calibration?.split ? draft.calibration.source : undefined
  return presets.find(({ grid }) => {
    const drafted = fromGrid({ ...grid, models: draft.models })
    const { calibration } = drafted
    const filled =
      calibration?.split && own !== undefined ? { ...drafted, ...textsAfter(drafted, { ...calibration, source: own }) } : drafted
    return JSON.stringify(toGrid(filled)) === wanted
  })
}

/** The repair text after a change of the calibration text. If it followed the old text, it follows the new one, with the same windows. */
export function repairTextAfter(
  { repairData, calibration: old }: Pick<Draft, 'repairData' | 'calibration'>,
  calibration: DataRequest | null,
) {
  if (!repairData || !old || repairData.source !== defaultRepairData(old).source) return repairData
  return calibration && { ...defaultRepairData(calibration), ...(repairData.windows ? { windows: repairData.windows } : {}) }
}

/**
 * The texts of a draft after a change of the calibration text. If only a part of the user's own text chooses, the other part is measured
 * first, under the name of the text.
 */
export function textsAfter(
  draft: Pick<Draft, 'repairData' | 'calibration' | 'perplexity' | 'evaluation' | 'others'>,
  calibration: DataRequest | null,
): Partial<Draft> {
  const { perplexity, evaluation } = draft
  const before = perplexity.find(isDeciding)
  const others = perplexity.filter((text) => !isDeciding(text))
  const texts = { calibration, repairData: repairTextAfter(draft, calibration) }
  if (!calibration?.split) return { ...texts, ...(before ? { perplexity: others } : {}) }
  const { source, sequenceLength, split } = calibration
  const usual = { source, sequenceLength: evaluation.sequenceLength ?? sequenceLength }
  const name = sourceName(source)
  const data = { ...(before?.data ?? usual), source, split: { part: 'deciding' as const, seed: split.seed } }
  const followed = draft.others.map((other) =>
    other.kind === 'repetition' && other.data.split ? { ...other, name, data: { ...other.data, source, split: data.split } } : other,
  )
  return { ...texts, perplexity: [{ name, data }, ...others], others: followed }
}

/** Whether a text to measure is the part of the user's own text that decides. */
export const isDeciding = ({ data }: Draft['perplexity'][number]): boolean => data.split?.part === 'deciding'

/** A name for what is chosen: `2SSP and ShortGPT, 25 % and 50 %, sample-model`, or `Vocabulary, 32,000 rows, sample-model`. */
export function suggestedName(draft: Draft, titleOf: (method: string) => string, models: readonly string[]): string {
  const methods = [...new Set(draft.methods.map(({ method }) => titleOf(method)))]
  const [named, more] = methods.length > 3 ? [methods.slice(0, 2), [`${methods.length - 2} more`]] : [methods, []]
  const ownRows = draft.methods.flatMap(({ method, options }) => (setsRows(method, options) ? rowsText(options) : []))
  const [first = '', ...rest] = ownRows.length === draft.methods.length ? [...new Set(ownRows)] : draft.amounts.map(amountText)
  const amounts = rest.length > 2 ? `${first} to ${rest.at(-1)}` : listed([first, ...rest])
  const model = models.length > 1 ? formatPlural(models.length, 'model') : models[0]
  return [listed([...named, ...more]) || 'Dense', methods.length > 0 ? amounts : '', model].filter(Boolean).join(', ')
}

function listed(parts: readonly string[]): string {
  return parts.length > 1 ? `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}` : (parts[0] ?? '')
}

/** The problem with one option's value, in a sentence; null if it is valid. The service decides. */
export function optionProblem(field: OptionField, value: unknown): string | null {
  if (value === undefined || value === null || value === '') return field.required ? `${field.label} is needed.` : null
  if (field.kind !== 'number' && field.kind !== 'integer') return null
  if (typeof value !== 'number' || !Number.isFinite(value)) return 'A number is needed here.'
  if (field.kind === 'integer' && !Number.isInteger(value)) return 'A whole number is needed here.'
  if (field.minimum !== undefined && value < field.minimum) return `At least ${field.minimum}.`
  if (field.above !== undefined && value <= field.above) return `More than ${field.above}.`
  if (field.maximum !== undefined && value > field.maximum) return `At most ${field.maximum}.`
  return null
}

export function changedOptions(method: MethodEntry, options: Record<string, unknown>): number {
  return method.options.filter(({ name, default: standard }) => options[name] !== undefined && options[name] !== standard).length
}
