// Titles of everything that is requested by name. `npm run generate` takes the titles of methods and formats from their own files.

/** The screens in the order of the main path. Each key is the screen's part of an address. */
export const screenTitles = {
  models: 'Models',
  new: 'New experiment',
  experiments: 'Experiments',
  runs: 'Runs',
  compare: 'Compare',
  broke: 'What broke',
  playground: 'Playground',
  judge: 'Judge',
  settings: 'Settings',
} as const

// generated: method-titles (npm run generate)
export const methodTitles = {
  '2ssp': '2SSP',
  shortgpt: 'ShortGPT',
  window_based: 'Window-based',
  blockpruner: 'BlockPruner, whole blocks',
  blockpruner_submodule: 'BlockPruner',
  evopress: 'EvoPress, whole blocks',
  evopress_submodule: 'EvoPress',
  slicegpt: 'SliceGPT',
  reap: 'REAP',
  gates: 'Gates',
  vocabulary: 'Vocabulary',
} as const
// end

/** Options of the method `vocabulary` that say how much it removes, so that it takes no other amount. */
export const rowOptions: readonly string[] = ['rows', 'share', 'coverage']

/** Whether the options of a method say how much it removes. */
export const setsRows = (method: string, options: Readonly<Record<string, unknown>>): boolean =>
  method === 'vocabulary' && rowOptions.some((name) => options[name] !== undefined)

/** What the sparsities of runs with these methods are shares of. */
export function sparsityBase(methods: readonly string[]): string {
  const isOfAll = methods.map((method) => method === 'vocabulary')
  if (!isOfAll.includes(true)) return 'the block stack'
  return isOfAll.includes(false) ? 'the block stack, or of all parameters for Vocabulary' : 'all parameters'
}

/** Ablations: studies of one design choice of 2SSP. Such a run produces a table and a plot instead of a plan. */
export const ablationTitles = {
  calibration: 'Calibration windows',
  one_stage: 'First stage only',
  rows_vs_cols: 'Rows and columns',
  l1_norm: 'L1 norm',
  balancing_sparsity_ratio: 'Balance of attention and MLPs',
} as const

/** Runs that inspect other runs and make no plan. */
export const inspectionTitles = {
  divergence: 'What broke',
  generation: 'Answers to prompts',
} as const

export const taskTitles = {
  winogrande: 'WinoGrande',
  arc_easy: 'ARC easy',
  arc_challenge: 'ARC challenge',
  hellaswag: 'HellaSwag',
  piqa: 'PIQA',
  mmlu: 'MMLU',
} as const

/** Tasks whose answers the model writes. */
export const writtenTitles = {
  gsm8k: 'GSM8K',
  ifeval: 'IFEval',
} as const

export const everyTaskTitle = { ...taskTitles, ...writtenTitles } as const

// generated: format-titles (npm run generate)
export const formatTitles = {
  exact: 'Exact folder',
  stock: 'Stock safetensors folder',
  gguf: 'GGUF file',
  'nemotron-nas': 'Nemotron-NAS folder for vLLM',
  'vllm-experts': 'Folder for vLLM with constant experts',
} as const
// end

/** Weight types of a GGUF file, by llama.cpp's names. */
export const ggufTypeTitles = {
  F32: 'full precision, as computed',
  F16: 'half precision, the base for quantising',
  BF16: 'bfloat16, lossless if the model is stored that way',
  Q8_0: '8.5 bits per weight, nearly as good as F16',
  Q6_K: '6.6 bits per weight',
  Q5_K_M: 'about 5.7 bits per weight',
  Q5_K_S: '5.5 bits per weight',
  Q5_1: '6 bits per weight',
  Q5_0: '5.5 bits per weight',
  Q4_K_M: 'about 4.9 bits per weight, the usual choice',
  Q4_K_S: 'about 4.6 bits per weight',
  Q4_1: '5 bits per weight',
  Q4_0: '4.5 bits per weight, the fastest on many processors',
  IQ4_NL: '4.5 bits per weight',
  IQ4_XS: '4.3 bits per weight',
  MXFP4: '4.3 bits per weight, the type of gpt-oss',
  Q3_K_L: 'about 4.3 bits per weight',
  Q3_K_M: 'about 3.9 bits per weight',
  Q3_K_S: '3.4 bits per weight',
  IQ3_M: 'about 3.7 bits per weight',
  IQ3_S: '3.4 bits per weight',
  IQ3_XS: 'about 3.3 bits per weight',
  IQ3_XXS: 'about 3.1 bits per weight',
  Q2_K: 'about 3.2 bits per weight',
  Q2_K_S: 'about 2.9 bits per weight',
  IQ2_M: 'about 2.7 bits per weight',
  IQ2_S: 'about 2.5 bits per weight',
  IQ2_XS: 'about 2.4 bits per weight',
  IQ2_XXS: 'about 2.1 bits per weight',
  IQ1_M: 'about 1.8 bits per weight',
  IQ1_S: 'about 1.6 bits per weight',
  SOURCE: 'keeps each tensor’s type from a GGUF file, or experts in MXFP4',
} as const

/**
 * A GGUF file of at most this many bytes, in which each matrix has the type that costs the model least: `MIXED:900000000`. Which types these
 * are is in the plan.
 */
export type MixedType = `MIXED:${number}`
export type WeightType = GgufType | MixedType

/** The bytes of a file of mixed types; undefined for a GGUF type. */
export function mixedBytes(type: string): number | undefined {
  const [, bytes] = /^MIXED:(\d{1,15})$/.exec(type) ?? []
  return bytes === undefined ? undefined : Number(bytes)
}

/** A weight type as people read it. Different sizes of mixed types read differently, because run names contain it. */
export function weightText(type: string): string {
  const bytes = mixedBytes(type)
  return bytes === undefined ? type : `mixed types (${(bytes / 1e6).toLocaleString('en', { maximumFractionDigits: 6 })} MB)`
}

/** Returns the types that a model can be written in. SOURCE keeps the types of a GGUF file, or of a folder with MXFP4. */
export const ggufTypesOf = ({ format, unpacked }: { format: string; unpacked?: boolean | undefined }): GgufType[] =>
  (Object.keys(ggufTypeTitles) as GgufType[]).filter((type) => type !== 'SOURCE' || format === 'gguf' || unpacked === true)

/** The types that GGUF files are written in by default. */
export const usualGgufTypes: GgufType[] = ['F16']

/** The formats that a table can be saved in. */
export const tableFormatTitles = {
  latex: 'LaTeX (booktabs)',
  markdown: 'Markdown',
  csv: 'CSV',
} as const

export type TableFormat = keyof typeof tableFormatTitles

export const backendTitles = {
  auto: 'Automatic',
  tensorflow: 'TensorFlow (GPU or CPU)',
  ggml: 'ggml (CPU)',
  'ggml-gpu': 'ggml (GPU)',
} as const

/** Texts that ship with Espalier. Texts for measuring are never used to decide what to prune. */
export const bundledTitles = {
  mixed: 'Mixed text',
  prose: 'Prose',
  code: 'Source code',
  spanish: 'Spanish',
} as const

/** Texts of the sample model, by their file names. */
export const sampleTextTitles = { calibration: 'Sample: calibration text', test: 'Sample: test text' } as const

/** The data source of a recovery that trains on text generated by the dense model. */
export const selfWritten = 'self-written'

/** The data sets of the 2SSP reference. */
export const datasetTitles = {
  wikitext2: 'WikiText-2 test',
  'c4-train': 'C4 train',
  'c4-val': 'C4 validation',
  'fineweb-edu': 'FineWeb-Edu',
} as const

export type ScreenId = keyof typeof screenTitles
export type MethodId = keyof typeof methodTitles
export type AblationId = keyof typeof ablationTitles
type InspectionId = keyof typeof inspectionTitles
export type TaskId = keyof typeof taskTitles
export type WrittenTaskId = keyof typeof writtenTitles
export type BundledId = keyof typeof bundledTitles
export type DatasetId = keyof typeof datasetTitles
export type FormatId = keyof typeof formatTitles
export type GgufType = keyof typeof ggufTypeTitles

/** The method id of a run that removes nothing. In an experiment it is the baseline. */
export const denseMethod = 'dense'

/** Whether a data source is a named text rather than a path. */
export function isTextName(source: string): boolean {
  return Object.hasOwn(bundledTitles, source) || Object.hasOwn(datasetTitles, source) || source === selfWritten
}

export function isAblation(method: string): method is AblationId {
  return Object.hasOwn(ablationTitles, method)
}

export function isInspection(method: string): method is InspectionId {
  return Object.hasOwn(inspectionTitles, method)
}

/** Methods of earlier versions. Their runs are shown, but none can be started. */
const retiredTitles = { '2ssp_fit': '2SSP, fitted' } as const

/** Says that a method was removed, and what to choose instead; undefined for all other names. */
export function retirementOf(method: string): string | undefined {
  if (!Object.hasOwn(retiredTitles, method)) return undefined
  return `The method ${titleOfMethod(method)} (${method}) was removed: gates keeps more of the model at the same sparsity. Its runs can still be viewed, compared and saved. For a new run, choose gates.`
}

export function titleOfMethod(method: string): string {
  const others = { [denseMethod]: 'Dense', ...retiredTitles, ...ablationTitles, ...inspectionTitles }
  const titles: Readonly<Record<string, string>> = { ...others, ...methodTitles }
  return Object.hasOwn(titles, method) ? (titles[method] as string) : method
}

/** The numbers that describe how far a run is from the dense model, in display order. */
export const divergenceTitles = {
  mean: 'Mean divergence',
  median: 'Median',
  p90: '90 %',
  p95: '95 %',
  p99: '99 %',
  p999: '99.9 %',
  sameTop: 'Same likeliest token',
  changeMean: 'Mean change in probability',
  changeRms: 'RMS change in probability',
  perplexity: 'Perplexity',
  perplexityRatio: 'Perplexity over the dense model’s',
} as const
export type DivergenceNumber = keyof typeof divergenceTitles
export const divergenceNumbers = Object.keys(divergenceTitles) as DivergenceNumber[]
